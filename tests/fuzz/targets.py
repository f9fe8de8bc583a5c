"""What is fuzzed: each reader of what others wrote, its seeds, and what it promises of whatever it reads.

A reader either reads, and what it read keeps the promises, or refuses with a HwnumaError of one line. A check returns
"read" or "refused", or says what is wrong.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hwnuma import (
    AffinityMode,
    CpuSet,
    Gpu,
    GpuNotFoundError,
    HwnumaError,
    Machine,
    NodeSet,
    NumaOptions,
    PlanError,
    Topology,
    TopologyGpus,
    plan,
)
from hwnuma.captures.variables import environment_there
from hwnuma.devices.nccl import read_nccl_topology
from hwnuma.devices.visible import ORDER_VARIABLES, VISIBLE_DEVICES, visible_gpus
from hwnuma.hwloc.library import list_text, parse_list
from hwnuma.model.facts import facts_of_infos
from hwnuma.model.gpu import MigInstance, normalize_pci_address
from hwnuma.processes.procfs import count_pages, parse_node_memory, parse_policy
from tests.fuzz.mutations import OF_XML, Mutation, mutate, of_text

CORPUS = Path(__file__).parent / "corpus"
TOPOLOGIES = Path(__file__).resolve().parent.parent.parent / "fixtures" / "topologies"

# What an error may repeat of an input is bounded; a list of visible devices is repeated up to 700 characters.
_MOST_MESSAGE = 4096


class BrokenPromiseError(Exception):
    """What was read is not what its reader promises."""


def _promise(kept: object, promise: str) -> None:
    if not kept:
        raise BrokenPromiseError(promise)


@dataclass(frozen=True)
class Target:
    """One reader that is fuzzed.

    Attributes:
        name: as the command line and the corpus call it.
        read: reads the input; raises a HwnumaError to refuse it and BrokenPromiseError where a promise is not kept.
        seeds: gives the inputs that others are made of.
        mutations: how others are made.
        share: of all executions: a reader that takes milliseconds gets fewer.
        seconds: the CPU time that one input may take.
    """

    name: str
    read: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    mutations: Sequence[Mutation]
    share: float
    seconds: float = 2.0

    def inputs(self) -> list[bytes]:
        """The seeds, and the inputs that went wrong once."""
        return [*self.seeds(), *(path.read_bytes() for path in sorted((CORPUS / self.name).glob("*")))]

    def input(self, seed: int, number: int) -> bytes:
        """The input of a number: the same each time."""
        chance = random.Random(f"{seed} {number}")
        return mutate(chance.choice(_inputs(self.name)), self.mutations, chance)

    def check(self, content: bytes) -> str:
        """Say what comes of an input."""
        try:
            self.read(content)
        except BrokenPromiseError as error:
            return f"broken promise: {error}"
        except HwnumaError as error:
            message = str(error)
            if len(message.splitlines()) != 1 or len(message) > _MOST_MESSAGE:
                return f"broken promise: the error is not one line: {message[:_MOST_MESSAGE]!r}"
            return "refused"
        except Exception as error:  # noqa: BLE001 -- this is what is looked for
            return f"bare exception {type(error).__name__}: {error}"
        return "read"


@cache
def _inputs(name: str) -> list[bytes]:
    return TARGETS[name].inputs()


def _text(content: bytes) -> str:
    return os.fsdecode(content)  # as an environment variable or an argument comes


# ---- topologies --------------------------------------------------------------------------------------------------


def _read_xml(content: bytes) -> None:
    with Topology.from_xml_buffer(content) as topology:
        machine = topology.machine()
    try:
        _plan_on(machine)
    except PlanError:
        return  # an answer too: no rank can be placed there


def _plan_on(machine: Machine) -> None:
    """Plan in all modes: without GPUs, with those of the machine, and with less."""
    try:
        found = TopologyGpus(machine).gpus()
    except GpuNotFoundError:
        found = ()
    for mode in AffinityMode:
        for options, gpus in (
            (NumaOptions(mode), ()),
            (NumaOptions(mode), found),
            (NumaOptions(mode, reserve_first_cores=True), ()),
        ):
            made = plan(machine, gpus, options, ranks=None if gpus else 2)
            placed = [binding for binding in made if binding.error is None]
            allowed = all(binding.cpuset and binding.cpuset <= machine.allowed_cpuset for binding in placed)
            _promise(allowed, f"{options}: CPUs that are not allowed, or none")
            _promise(mode is not AffinityMode.EXCLUSIVE or not any(made.overlaps()), f"{options}: shares that overlap")


# Machines of some kB, beside the fixtures of some 100 kB: read many times as fast, and with less in them that nobody
# reads, so that a change more often matters. libhwloc writes them, each of its versions a little differently.
_SMALL_MACHINES = (
    "pu:1",
    "core:2 pu:2",
    "pack:2 [numa] l3:1 core:2 pu:2",
    "pack:2 l3:1 [numa] core:2 pu:1",
    "pack:2 [numa(memory=4GB)] [numa(memory=1GB)] core:2 pu:1",
    "numa:4 pack:1 core:1 pu:2",
    "pack:1 die:2 [numa] l3:2 core:1 pu:1",
    "group:2 pack:1 [numa] l2:2 core:2 pu:1",
)
_DEVICES = (
    b'<object type="Bridge" gp_index="9001" bridge_type="0-1" depth="0" bridge_pci="0000:[00-08]">'
    b'<object type="PCIDev" gp_index="9002" pci_busid="0000:07:00.0" pci_type="0302 [10de:20b2] [0000:0000] a1"/>'
    b'<object type="PCIDev" gp_index="9003" pci_busid="0000:08:00.0" pci_type="0207 [15b3:101b] [0000:0000] 00">'
    b'<object type="OSDev" gp_index="9004" name="mlx5_0" osdev_type="3"><info name="Port1State" value="4"/></object>'
    b"</object></object>"
)


def _small_topologies() -> list[bytes]:
    """Each small machine, without devices and with a GPU and a NIC."""
    made = [Topology.from_synthetic(each).export_xml().encode() for each in _SMALL_MACHINES]
    parts = [each.rpartition(b"</object>") for each in made]  # the last object to end is the machine
    return [*made, *(inside + _DEVICES + end + after for inside, end, after in parts)]


def _topologies() -> list[bytes]:
    return [*(path.read_bytes() for path in sorted(TOPOLOGIES.glob("*.xml"))), *_small_topologies()]


# ---- sets --------------------------------------------------------------------------------------------------------


def _read_set(content: bytes) -> None:
    """A list as --cpus and the kernel write it, or a mask as NCCL and the kernel write it, which begins with 0x."""
    text = _text(content)
    kind = NodeSet if text.startswith("n") else CpuSet
    text = text.removeprefix("n")
    members = kind.from_mask_text(text[2:]) if text.startswith("0x") else kind(text)
    _promise(kind(str(members)) == members or members.last > 1 << 20, "its text is read as another set")
    _promise(kind.from_mask_text(members.mask_text) == members, "its mask is read as another set")
    _promise(kind.from_mask(members.mask) == members, "its bits make another set")
    _promise(len(members) == sum(last - first + 1 for first, last in members.ranges()), "its ranges have other members")
    if members and members.last < 1 << 10:
        _promise(parse_list(kind, str(members)) == members, "libhwloc reads its text as another set")
        _promise(list_text(members) == str(members), "libhwloc writes it in another way")
    if members and members.last < 1 << 9:
        _promise(kind(list(members)) == members, "its members make another set")


_LISTS = [
    *(b"0-3,8", b"0-63,128-191", b"0-31:2/8", b"0,2,4,6", b"0xffff0000,0000ffff", b"n0-1", b"n0", b"8191", b"0x1,0,0"),
    *(b"", b" 1 , 2 ", b"0-7\n", b"0-3\0", b"0-8191:1/2", b"0x0", b"3-3"),
]
_LIST_WORDS = [
    b"0-1048576",
    b"-",
    b",",
    b":",
    b"/",
    b"0-3",
    b":1/2",
    b"/0",
    b",,",
    b"0x",
    b"n",
    b"8191",
    b"ffffffff",
    b"\0",
    b"\n",
]


# ---- visible devices ---------------------------------------------------------------------------------------------

_UUID = "GPU-5d9f84e1-0000-4e21-9cd4-0000000000{:02x}"


def _gpus(vendor: str) -> tuple[Gpu, ...]:
    """Some GPUs of a vendor: of NVIDIA's two models, of which one is cut into MIG instances."""
    if vendor != "nvidia":
        return tuple(Gpu(n, f"0000:{n + 1:02x}:00.0", uuid=f"GPU-{n:016x}", name="a GPU") for n in range(4))
    whole = [Gpu(n, f"0000:{n + 1:02x}:00.0", uuid=_UUID.format(n), name=f"model {n % 2}") for n in range(3)]
    parts = [
        Gpu(3 + n, "0000:04:00.0", f"MIG-{n}a41f7a1", "model 1 MIG 1g.5gb", device_index=3,
            mig=MigInstance(_UUID.format(3), 7 + n, 0))
        for n in range(2)
    ]  # fmt: skip
    return (*whole, *parts)


def _read_visible(content: bytes) -> None:
    """A line that names the vendor, then one for each variable."""
    vendor, *lines = _text(content).split("\n")
    environment = dict(line.split("=", 1) for line in lines if "=" in line)
    gpus = _gpus(vendor)
    seen = visible_gpus(gpus, environment, vendor)
    _promise(set(seen.gpus) <= set(gpus), "a GPU that is not there")
    _promise(len(set(seen.gpus)) == len(seen.gpus), "a GPU twice")
    _promise(all("\n" not in warning and warning.isprintable() for warning in seen.warnings), "a warning of two lines")
    _promise(visible_gpus(gpus, environment, vendor) == seen, "another answer the second time")
    if seen.gpus and not any(gpu.mig for gpu in seen.gpus):
        variable = {"nvidia": "CUDA_VISIBLE_DEVICES", "amd": "ROCR_VISIBLE_DEVICES", "intel": "ZE_AFFINITY_MASK"}[
            vendor
        ]
        indexes = {variable: ",".join(str(gpu.index) for gpu in seen.gpus)}
        _promise(visible_gpus(gpus, indexes, vendor).gpus == seen.gpus, "its own numbers name other GPUs")


_ENVIRONMENTS = [
    b"nvidia\nCUDA_VISIBLE_DEVICES=2,0,1\nCUDA_DEVICE_ORDER=PCI_BUS_ID",
    b"nvidia\nCUDA_VISIBLE_DEVICES=GPU-5d9f84e1-0000-4e21-9cd4-000000000001,GPU-5d9f84e1-0000-4e21-9cd4-000000000000",
    b"nvidia\nCUDA_VISIBLE_DEVICES=MIG-0a41f7a1,MIG-GPU-5d9f84e1-0000-4e21-9cd4-000000000003/8/0",
    b"nvidia\nCUDA_VISIBLE_DEVICES=3\nCUDA_DEVICE_ORDER=FASTEST_FIRST",
    b"nvidia\nCUDA_VISIBLE_DEVICES=-1",
    b"amd\nROCR_VISIBLE_DEVICES=3,0x1,02\nHIP_VISIBLE_DEVICES=1,0",
    b"amd\nROCR_VISIBLE_DEVICES=GPU-0000000000000002,0\nCUDA_VISIBLE_DEVICES=1",
    b"amd\nHIP_VISIBLE_DEVICES=GPU-0000000000000003",
    b"intel\nZE_AFFINITY_MASK=0.1,2,3.0.1\nZE_FLAT_DEVICE_HIERARCHY=COMPOSITE",
    b"intel\nZE_AFFINITY_MASK=1,0",
]
_VARIABLE_WORDS = [
    *(name.encode() + b"=" for name in (*VISIBLE_DEVICES, *ORDER_VARIABLES)),
    *(b",", b"GPU-", b"MIG-", b"MIG-GPU-", b"/7/0", b"0x", b"010", b"-1", b" ", b"1gpu2", b"nvidia", b"amd", b"intel"),
]


# ---- files of NCCL's ---------------------------------------------------------------------------------------------


@cache
def _memory_file() -> int:
    return os.memfd_create("input")


def _read_nccl_content(content: bytes) -> dict[str, int]:
    descriptor = _memory_file()
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, content, 0)
    return read_nccl_topology(f"/proc/self/fd/{descriptor}")


def _read_nccl(content: bytes) -> None:
    nodes = _read_nccl_content(content)
    for address, node in nodes.items():
        _promise(normalize_pci_address(address) == address, "an address in another form")
        _promise(0 <= node <= 1 << 20, "a node that no machine has")
    written = "".join(f'<cpu numaid="{node}"><pci busid="{address}"/></cpu>' for address, node in nodes.items())
    _promise(_read_nccl_content(f"<system>{written}</system>".encode()) == nodes, "written anew it is another")


_NCCL_FILES = [
    b'<system version="1"><cpu numaid="0" affinity="0000ffff" arch="x86_64" vendor="AuthenticAMD" familyid="143" '
    b'modelid="49"><pci busid="ffff:ff:01.0" class="0x060400" link_speed="16 GT/s" link_width="16"><pci '
    b'busid="0000:07:00.0" class="0x030200"><gpu dev="0" sm="80" rank="0"/></pci><pci busid="0000:08:00.0" '
    b'class="0x020700"><nic><net name="mlx5_0" dev="0" speed="200000"/></nic></pci></pci></cpu></system>',
    b'<system version="1">\n  <cpu numaid="1">\n    <pci busid="0000:0b:00"/>\n  </cpu>\n  <cpu numaid="-1">\n'
    b'    <pci busid="00010000:0c:00.0"/>\n  </cpu>\n</system>\n',
    b"<?xml version='1.0' encoding='ISO-8859-1'?><!-- a cloud's --><system><cpu numaid='0'/></system>",
]


# ---- captures ----------------------------------------------------------------------------------------------------


def _read_facts(content: bytes) -> None:
    """The info attributes that a capture has, one a line: its name, "=", its JSON."""
    lines = content.decode("utf-8", "replace").split("\n")
    facts = facts_of_infos([(name, value) for name, _, value in (line.partition("=") for line in lines)])
    if facts is None:
        return
    again = facts_of_infos(facts.infos())
    _promise(again == facts, "written anew it is another")
    there = environment_there(facts, {})
    _promise(not {"NCCL_TOPO_FILE", "HWNUMA_NCCL_TOPO"} & set(there), "a variable that names a file counts")
    for gpus, vendor in ((facts.gpus, "nvidia"), (facts.amd_gpus, "amd")):
        _promise(len(visible_gpus(gpus, there, vendor).gpus) <= len(gpus), "more GPUs are seen than there are")


_CAPTURES = [
    b"""HwnumaSchema=1
HwnumaHost="n1"
HwnumaAnonymous=false
HwnumaVersions={"hwnuma":"0.1.0","hwloc":"2.11","kernel":"6.1.0","driver":"570.86.10"}
HwnumaAffinity="0-63"
HwnumaMemoryNodes="0-1"
HwnumaCoreSpeeds=["0-31","32-63"]
HwnumaKernelSettings={"numa_balancing":1,"zone_reclaim_mode":0,"huge_pages":"madvise","huge_pages_defrag":"madvise","isolcpus":"","nohz_full":"","isolated_cpuset":""}
HwnumaVariables={"CUDA_VISIBLE_DEVICES":"0,1","SLURM_NTASKS_PER_NODE":"8"}
HwnumaNcclNodes={"0000:07:00.0":1}
HwnumaNvmlError=""
HwnumaNvlinks=[["0000:07:00.0","0000:0f:00.0",12],["0000:0f:00.0","0000:07:00.0",12]]
HwnumaSerials={}
HwnumaAmdGpus=[{"index":0,"pci_address":"0000:0c:00.0","uuid":"GPU-2b9d1f0a4c6e8d01","compute_partition":"CPX"}]
HwnumaGpu={"index":0,"pci_address":"0000:07:00.0","uuid":"GPU-5d9f84e1-0000-4e21-9cd4-000000000000","name":"NVIDIA A100-SXM4-80GB","device_index":null,"cpu_affinity":"0-15","memory_affinity":"0","mig":null}
HwnumaGpu={"index":1,"pci_address":"0000:0f:00.0","uuid":"MIG-0a41f7a1","name":"NVIDIA A100 MIG 1g.5gb","device_index":1,"cpu_affinity":null,"memory_affinity":null,"mig":{"parent_uuid":"GPU-5d","gpu_instance":7,"compute_instance":0}}""",
    b'HwnumaSchema=1\nHwnumaAnonymous=true\nHwnumaHost=""\nHwnumaNvmlError="there is no NVML"',
    b"Backend=Linux",
]
_JSON_WORDS = [
    *(b"null", b"true", b"false", b"{}", b"[]", b'""', b"1.5", b"-0", b"NaN", b"Infinity", b'"\\ud800"', b'"\\u0000"'),
    *(
        b"\nHwnumaGpu=",
        b"\nHwnumaSchema=2",
        b"\nHwnumaVariables=",
        b'{"NCCL_TOPO_FILE":"/dev/zero"}',
        b'"index":',
        b",",
    ),
]


# ---- the kernel's ------------------------------------------------------------------------------------------------


def _read_numa_maps(content: bytes) -> None:
    """A numa_maps, or a node's meminfo, which begins with "Node"."""
    text = content.decode(errors="replace")
    if text.startswith("Node"):
        memory = parse_node_memory(0, text)
        _promise(min(memory.total, memory.free, memory.reclaimable) >= 0, "a size below nothing")
        _promise(memory.is_nearly_full in (True, False), "nearly full or not")
        return
    lines = text.split("\n")
    policy = parse_policy(lines[0])
    pages = count_pages(lines)
    _promise(pages.own_total == sum(pages.own.values()) >= 0, "memory below nothing")
    _promise(pages.own_outside(NodeSet()) == pages.own_total, "memory that is nowhere")
    _promise(policy is None or NodeSet(str(policy.nodeset)) == policy.nodeset, "nodes that are written in another way")


_NUMA_MAPS = [
    b"55d0c0a4e000 default file=/usr/bin/python3.11 mapped=4 N0=3 N1=1 kernelpagesize_kB=4\n"
    b"7f0c2c000000 bind:0-1 anon=512 dirty=512 N0=512 kernelpagesize_kB=2048\n7ffd0 default stack anon=3 N1=3\n",
    b"7f00 prefer (many):0,2 anon=1 N0=1",
    b"7f00 interleave=static:0-3 heap anon=2 N0=1 N3=1 kernelpagesize_kB=4",
    b"7f00 weighted interleave:0-1",
    b"7f00 local file=/tmp/a\\040N9=9 huge N0=1",
    b"Node 0 MemTotal:       65536000 kB\nNode 0 MemFree:         1234567 kB\nNode 0 Active(file):      100 kB\n"
    b"Node 0 Inactive(file):    200 kB\n",
]
_MAP_WORDS = [
    *(
        b"default",
        b"local",
        b"prefer",
        b"prefer (many)",
        b"bind",
        b"interleave",
        b"weighted interleave",
        b"=static",
        b":",
    ),
    *(b" N0=", b" N1=1", b" kernelpagesize_kB=", b" file=", b"\n", b"\r", b" ", b"=", b"Node 0 ", b" kB", b"MemFree:"),
]


TARGETS = {
    target.name: target
    for target in (
        Target("xml", _read_xml, _topologies, OF_XML, share=0.004, seconds=5.0),
        Target("cpusets", _read_set, lambda: _LISTS, of_text(_LIST_WORDS), share=0.15),
        Target("visible", _read_visible, lambda: _ENVIRONMENTS, of_text(_VARIABLE_WORDS), share=0.2),
        Target("nccl", _read_nccl, lambda: _NCCL_FILES, OF_XML, share=0.15),
        Target("captures", _read_facts, lambda: _CAPTURES, of_text(_JSON_WORDS), share=0.18),
        Target("numa_maps", _read_numa_maps, lambda: _NUMA_MAPS, of_text(_MAP_WORDS), share=0.316),
    )
}
