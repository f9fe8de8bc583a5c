"""Print, as one JSON object, facts about the machine that this runs on. It runs in a guest.

    python -m tests.vm.guest_checks --gpus 0000:21:00.0,0000:41:00.0 kernel topology torch

Each argument is a section of the answer:

- ``kernel``: what the kernel itself says, read from sysfs and procfs by nothing but this file, so that it can be
  held against what QEMU was asked for and against what hwnuma says;
- ``topology``: the same facts as hwnuma's Topology has them;
- ``plan`` and ``plan-node-zero``: what hwnuma plans for each rank in each mode; in the second a GPU of which nothing
  says where it is counts as on node 0, as torch has it;
- ``torchrun``: the CPUs of the workers of a real torchrun, one for each GPU that is on a node with CPUs, bound by torch
  itself (``--numa-binding``) in each mode and by hwnuma in each, or in those where torch raises if there are any;
- ``torch``: where torch.numa.binding puts each rank in each mode;
- ``exec``: the CPUs that a command really has that `hwnuma exec` started, for each rank in one mode;
- ``memory``: the CPUs, policies and nodes of private pages of a command that `hwnuma exec --memory bind` started, for
  each rank; where memory is ahead of migrating it to the last node, and after; what `hwnuma verify` says of a process
  before and after it was moved away;
- ``memory-alone``: where a command's private pages are whose memory `hwnuma exec` bound to a node without CPUs, or what
  it says of one that has no memory either;
- ``defeaters``: the names of what `hwnuma verify` says defeats a binding, each provoked here one after the other;
- ``bench``: what `hwnuma bench` measures, as its JSON has it, and where this file itself saw its buffers meanwhile: for each
  node how many mappings of a buffer's size had all their pages there, and how many had one elsewhere;
- ``compare``: what `hwnuma bench --compare` tells of a program that binds itself late, and of one that does so early, in
  the modes none and node: remote bytes, and those that the processes counted themselves;
- ``copies``: what is measured of copies to made-up GPUs, on the displays' nodes, that are faster the nearer memory is;
- ``tables``: what `hwnuma plan` prints in each mode;
- ``capture``: nothing but the exit status of `hwnuma capture`, which leaves its file for the host;
- ``plans``: the JSON of the plans in each mode by each of twenty sets of options (`tests.captured_plans`).

Sets are sorted lists of the kernel's numbers; groups of CPUs are sorted lists of such lists. What one rank gets in a
mode is its CPUs, or the name of the error's type where it gets none. A section that fails is a traceback, and the
others are there all the same.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import traceback
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.differential.torch_numa import OUR_MISTAKES, answer_for_devices, call

from .machines import parse_list

# The lab and the section "kernel" work where hwnuma is not installed; so all else imports where it is used.
if TYPE_CHECKING:
    import hwnuma

Facts = dict[str, object]
# By mode, for each rank: its CPUs, or the name of an error's type.
Placements = dict[str, list[list[int] | str]]

MODES = ("node", "socket", "exclusive", "core-complex")

_CPUS = Path("/sys/devices/system/cpu")
_NODES = Path("/sys/devices/system/node")
_PCI_DEVICES = Path("/sys/bus/pci/devices")
_DISPLAY_CLASS = "0x038000"
_CAPTURED = "/run/hwnuma-vm/out/captured.xml"
_HWNUMA = (sys.executable, "-m", "hwnuma")

# All ranks in one mode only: every command takes some seconds in a guest. It is the mode that gives each rank its own.
EXEC_MODE = "exclusive"

# `hwnuma bench --format json`, but for as many rounds as a verdict takes, however long these take here.
_BENCH = """
import json
from hwnuma.launch.system import load_this_system
from hwnuma.measure.matrix import Asked, measure
from hwnuma.measure.statistics import ENOUGH
from hwnuma.report.bench import bench_as_data

with load_this_system(pci=False) as topology:
    found = measure(topology, topology.machine(), Asked(seconds=0.1, busy=True), _rounds=ENOUGH)
print(json.dumps(bench_as_data(found)))
"""

# Pages of the least buffer.
_LARGE = 512

# How torchrun is asked to start workers by hwnuma: in two modes each plans for itself, in two the launcher has planned.
_TORCHRUN_ARGUMENTS = {
    "node": [],
    "socket": ["--logs-specs=hwnuma"],
    "exclusive": ["--logs-specs=hwnuma"],
    "core-complex": [],
}


def _members(text: str) -> list[int]:
    return sorted(parse_list(text))


def _read_list(path: Path) -> list[int]:
    return _members(path.read_text())


def _groups(sets: Iterable[Iterable[int]]) -> list[list[int]]:
    """Return different sets of CPUs in order, each once."""
    return [list(group) for group in sorted({tuple(sorted(members)) for members in sets})]


def _numbered(folder: Path, prefix: str) -> dict[int, Path]:
    """Return the entries of a folder that are a prefix and a number, by that number."""
    entries = {path.name.removeprefix(prefix): path for path in folder.glob(f"{prefix}[0-9]*")}
    return dict(sorted((int(number), path) for number, path in entries.items()))


def _packages(cpus: Iterable[Path]) -> list[list[int]]:
    members: dict[str, set[int]] = {}
    for cpu in cpus:
        package = (cpu / "topology/physical_package_id").read_text()
        members.setdefault(package, set()).add(int(cpu.name.removeprefix("cpu")))
    return _groups(members.values())


def _last_level_cache(cpu: Path) -> list[int]:
    """Return the CPUs that share a CPU's highest-level cache of data."""
    caches = [path for path in (cpu / "cache").glob("index*") if (path / "type").read_text().strip() != "Instruction"]
    highest = max(caches, key=lambda path: int((path / "level").read_text()))
    return _read_list(highest / "shared_cpu_list")


def _of_status(field: str) -> list[int]:
    """Return the set that a field of this process's status has."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return _members(lines[field])


def kernel(_gpus: Sequence[str]) -> Facts:
    """Return what the kernel says of its CPUs, NUMA nodes, caches and displays."""
    online = _read_list(_CPUS / "online")
    cpus = [_CPUS / f"cpu{number}" for number in online]
    nodes = _numbered(_NODES, "node")
    displays = [path for path in _PCI_DEVICES.iterdir() if (path / "class").read_text().strip() == _DISPLAY_CLASS]
    return {
        "online": online,
        "offline": _read_list(_CPUS / "offline"),
        "allowed_cpus": _of_status("Cpus_allowed_list"),
        "allowed_nodes": _of_status("Mems_allowed_list"),
        "packages": _packages(cpus),
        "cores": _groups(_read_list(cpu / "topology/thread_siblings_list") for cpu in cpus),
        "last_level_caches": _groups(map(_last_level_cache, cpus)),
        "node_cpus": {number: _read_list(path / "cpulist") for number, path in nodes.items()},
        "memory_nodes": _read_list(_NODES / "has_memory"),
        "distances": {
            number: [int(word) for word in (path / "distance").read_text().split()] for number, path in nodes.items()
        },
        "nearest_initiators": {
            number: sorted(_numbered(path / "access0/initiators", "node"))
            for number, path in nodes.items()
            if (path / "access0").is_dir()
        },
        "display_nodes": {path.name: int((path / "numa_node").read_text()) for path in displays},
        "display_local_cpus": {path.name: _read_list(path / "local_cpulist") for path in displays},
    }


def topology(_gpus: Sequence[str]) -> Facts:
    """Return what hwnuma's picture of this machine has, under the names that `kernel` has it."""
    from hwnuma.hwloc.topology import Topology

    with Topology.from_this_system() as loaded:
        machine = loaded.machine()
    displays = [device for device in machine.pci_devices if device.class_id == int(_DISPLAY_CLASS, 16) >> 8]
    return {
        "is_this_system": machine.is_this_system,
        "online": list(machine.cpuset),
        "allowed_cpus": list(machine.allowed_cpuset),
        "allowed_nodes": list(machine.allowed_nodeset),
        "packages": _groups(package.cpuset for package in machine.packages),
        "cores": _groups(core.cpuset for core in machine.cores),
        "last_level_caches": _groups(cache.cpuset for cache in machine.last_level_caches),
        "node_cpus": {node.os_index: list(node.cpuset) for node in machine.numa_nodes},
        "memory_nodes": [node.os_index for node in machine.numa_nodes if node.memory],
        "distances": dict(zip(machine.distances.nodes, map(list, machine.distances.values), strict=True)),
        "near_cpus": {node.os_index: list(node.near_cpuset) for node in machine.numa_nodes},
        "display_local_cpus": {device.address: list(device.near_cpuset) for device in displays},
    }


def plan(gpus: Sequence[str]) -> Placements:
    """Return what hwnuma plans for these GPUs, one rank each."""
    return _plan(gpus, "error")


def plan_node_zero(gpus: Sequence[str]) -> Placements:
    """Return what hwnuma plans when it is told to count a GPU of unknown place as on node 0."""
    return _plan(gpus, "node0")


def _plan(gpus: Sequence[str], unknown_locality: str) -> Placements:
    import hwnuma

    with hwnuma.Topology.from_this_system() as loaded:
        machine = loaded.machine()
    return plan_in_all_modes(machine, gpus, unknown_locality)


def plan_in_all_modes(machine: hwnuma.Machine, gpus: Sequence[str], unknown_locality: str = "error") -> Placements:
    """Return what hwnuma plans on a machine, this one or a saved one, for GPUs at these PCI addresses."""
    import hwnuma

    placements: Placements = {}
    for mode in MODES:
        options = hwnuma.NumaOptions(
            hwnuma.AffinityMode(mode), unknown_locality=hwnuma.UnknownLocality(unknown_locality)
        )
        planned = hwnuma.plan(machine, hwnuma.gpus_at(machine, gpus), options)
        placements[mode] = [list(each.cpuset) if each.error is None else type(each.error).__name__ for each in planned]
    return placements


def torch_binding(gpus: Sequence[str]) -> Placements:
    """Let torch bind a process for each rank in each mode, and read back what the kernel then has for it."""
    binding = _torchs_binding()
    # All else that it does is its own: it looks in this kernel's sysfs and asks this kernel for affinities.
    answer_for_devices(sys.modules["torch"], gpus)
    # To log an error that it raises, torch imports much of itself, which takes a guest minutes.
    logging.disable()
    return {mode: [_in_a_fork(_bind_as_torch, binding, mode, rank) for rank in range(len(gpus))] for mode in MODES}


def _torchs_binding() -> Any:
    """Return torch.numa.binding: of torch if it is imported already, else that file of it alone.

    It takes a guest a minute to import torch, and all that this file wants of it is torch.cuda and torch.accelerator,
    where we answer for what it asks, and a function to count events with, which does nothing outside of torch's own house.
    """
    if "torch" in sys.modules:
        from torch.numa import binding

        return binding
    torch = importlib.util.find_spec("torch")
    assert torch is not None
    assert torch.submodule_search_locations
    path = Path(torch.submodule_search_locations[0], "numa/binding.py")
    for name, attributes in {
        "torch": {"cuda": types.SimpleNamespace(), "accelerator": types.SimpleNamespace()},
        "torch._utils_internal": {"signpost_event": lambda **_event: None},
    }.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(attributes)
    spec = importlib.util.spec_from_file_location("torch.numa.binding", path)
    assert spec is not None
    assert spec.loader is not None
    binding = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(binding)
    return binding


def _bind_as_torch(binding: Any, mode: str, rank: int) -> list[int] | str:
    options = binding.NumaOptions(affinity_mode=binding.AffinityMode(mode))
    try:
        call(binding._maybe_apply_numa_binding_to_current_process, rank, options)
    except AssertionError:
        raise  # a mistake of ours
    except Exception as error:  # noqa: BLE001 -- torch raises whatever it stumbles over
        return type(error).__name__
    return sorted(os.sched_getaffinity(0))


def _in_a_fork(function: Callable[..., Any], *arguments: object) -> Any:
    """Return what a function returns, called in a process of its own: a bound one cannot be unbound without knowing how."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, json.dumps(function(*arguments)).encode())
        except BaseException:  # noqa: BLE001 -- a fork must never go on as the process that it is one of
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        answer = told.read()
    os.waitpid(child, 0)
    return json.loads(answer)


def torchrun(gpus: Sequence[str]) -> Facts:
    """Let torchrun start a worker for each GPU in each mode, bound by torch and by hwnuma.

    All launches are in this one process, and no worker imports torch, for it takes a minute.
    """
    import torch.cuda
    import torch.distributed.run

    near = [address for address in gpus if (_PCI_DEVICES / address / "local_cpulist").read_text().strip()]
    near = [address for address in near if (_PCI_DEVICES / address / "numa_node").read_text().strip() != "-1"]
    answer_for_devices(torch, near)
    logging.disable()
    by_torch = {mode: _launched(len(near), [f"--numa-binding={mode}", "--no-python"], []) for mode in MODES}
    by_hwnuma, os.environ["HWNUMA_GPUS"] = {}, ",".join(near)
    for mode in [mode for mode in MODES if isinstance(by_torch[mode], str)] or MODES:
        os.environ["HWNUMA_MODE"] = mode
        arguments = [*_TORCHRUN_ARGUMENTS[mode], "--no-python"]
        by_hwnuma[mode] = _launched(len(near), arguments, [*_HWNUMA, "exec", "--"])
    del os.environ["HWNUMA_GPUS"], os.environ["HWNUMA_MODE"]
    return {"gpus": near, "torch": by_torch, "hwnuma": by_hwnuma}


def _launched(workers: int, arguments: Sequence[str], wrapper: Sequence[str]) -> list[list[int]] | str:
    """Return the CPUs that each worker of a torchrun says it has, or the name of the error that torchrun raised."""
    import torch.distributed.run

    with tempfile.TemporaryDirectory() as folder:
        worker = f"grep ^Cpus_allowed_list: /proc/self/status > {folder}/$LOCAL_RANK"
        own = [f"--nproc-per-node={workers}", "--master-port=0", f"--log-dir={folder}/logs"]
        try:
            torch.distributed.run.main([*own, *arguments, *wrapper, "sh", "-c", worker])
        except OUR_MISTAKES:
            raise  # no answer of torch's
        except Exception as error:  # noqa: BLE001 -- torch raises whatever it stumbles over
            return type(error).__name__
        told = [Path(folder, str(rank)).read_text() for rank in range(workers)]
    return [_members(line.partition(":")[2]) for line in told]


def execute(gpus: Sequence[str]) -> list[dict[str, object]]:
    """Let hwnuma start a command for each rank, and return what the kernel says there of the CPUs allowed to it."""
    answers: list[dict[str, object]] = []
    for rank in range(len(gpus)):
        command = ["exec", "--gpus", ",".join(gpus), "--mode", EXEC_MODE, "--local-rank", str(rank), "--"]
        command += ["grep", "^Cpus_allowed_list:", "/proc/self/status"]
        done = _hwnuma(command)
        cpus = _members(done.stdout.partition(":")[2])
        answers.append({"status": done.returncode, "cpus": cpus, "stderr": done.stderr})
    return answers


def _hwnuma(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run the command hwnuma in a fork of this process, where it is imported already: that takes a guest seconds."""
    from hwnuma.cli.start import main

    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        child = os.fork()
        if child == 0:
            os.dup2(output.fileno(), 1)
            os.dup2(errors.fileno(), 2)
            try:
                status = main(list(arguments))
                sys.stdout.flush()
                sys.stderr.flush()
            except BaseException:  # noqa: BLE001 -- a fork must never go on as the process that it is one of
                traceback.print_exc()
                status = 255
            os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        told = []
        for file in (output, errors):
            file.seek(0)
            told.append(file.read())
    return subprocess.CompletedProcess(list(arguments), status, *told)


# Private memory on the first node, bound late to the last one: where it is as the kernel has it, then migrated.
_MIGRATE = """
import json, os, sys
from hwnuma import Binding, CpuSet, NodeSet, Topology
from hwnuma.processes.binding import apply
from tests.vm.guest_checks import _nodes_of_private_pages
first, last, node = CpuSet(sys.argv[1]), CpuSet(sys.argv[2]), NodeSet(sys.argv[3])
assert os.sched_getaffinity(0) == set(first)
memory = bytearray(8 << 20)
memory[::4096] = b"x" * (len(memory) // 4096)
nodes = [_nodes_of_private_pages(open("/proc/self/numa_maps").read())]
with Topology.for_binding(node, last) as topology:
    apply(topology, Binding(0, cpuset=last, nodeset=node), migrate=True)
nodes.append(_nodes_of_private_pages(open("/proc/self/numa_maps").read()))
print(json.dumps([nodes, sorted(os.sched_getaffinity(0))]))
"""


def _nodes_of_private_pages(maps: str) -> list[int]:
    lines = [line for line in maps.splitlines() if " anon=" in line and " file=" not in line]
    return sorted({int(word[1 : word.index("=")]) for line in lines for word in line.split() if word[0] == "N"})


def memory(gpus: Sequence[str]) -> Facts:
    """Return what the kernel has of commands with a memory policy, of migrated memory, and what verify finds."""
    ranks: list[dict[str, object]] = []
    for rank in range(len(gpus)):
        options = ["--gpus", ",".join(gpus), "--mode", "node", "--memory", "bind", "--local-rank", str(rank)]
        command = [*_HWNUMA, "exec", *options, "--", "cat", "/proc/self/numa_maps", "/proc/self/status"]
        told = _output(command)
        maps = [line for line in told.splitlines() if " kernelpagesize_kB=" in line]
        allowed = next(line for line in told.splitlines() if line.startswith("Cpus_allowed_list:"))
        ranks.append(
            {
                "cpus": _members(allowed.partition(":")[2]),
                "policies": sorted({line.split()[1] for line in maps}),
                "nodes": _nodes_of_private_pages("\n".join(maps)),
            }
        )
    nodes = [(number, cpus) for number, cpus in _cpus_of_nodes().items() if cpus]
    (_, first), (number, last) = nodes[0], nodes[-1]
    places = [first, last, str(number)]
    # From its start on the first node, since what Python allocates ahead of the script is to be there too.
    command = ["taskset", "--cpu-list", places[0], sys.executable, "-c", _MIGRATE, *places]
    migrated = json.loads(_output(command))
    return {"ranks": ranks, "migrated": migrated, "verified": _verified(*places[:2])}


def _cpus_of_nodes() -> dict[int, str]:
    return {number: (path / "cpulist").read_text().strip() for number, path in _numbered(_NODES, "node").items()}


def memory_alone(_gpus: Sequence[str]) -> Facts:
    """Bind a command's memory to each node of memory alone, and return the nodes that its private pages are on.

    Of a node without memory, return what hwnuma says, and its status.
    """
    nodes = _cpus_of_nodes()
    near = next(filter(None, nodes.values()))
    with_memory = _read_list(_NODES / "has_memory")
    pages: dict[int, list[int]] = {}
    refused: dict[int, tuple[int, str]] = {}
    for node in (node for node, cpus in nodes.items() if not cpus):
        done = _hwnuma(
            ["exec", "--cpus", near, "--nodes", str(node), "--memory", "bind", "--", "cat", "/proc/self/numa_maps"]
        )
        if node in with_memory:
            pages[node] = _nodes_of_private_pages(done.stdout)
        else:
            refused[node] = (done.returncode, done.stderr)
    return {"pages": pages, "refused": refused}


def _output(command: Sequence[str]) -> str:
    """Return what a command writes; if it fails, raise what it says of that."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"status {done.returncode}: {done.stderr}")
    return done.stdout


def _verified(near: str, far: str) -> list[dict[str, object]]:
    """Return what verify says of a process in its place, and moved to other CPUs."""
    answers = []
    with subprocess.Popen([*_HWNUMA, "exec", "--cpus", near, "--", "sleep", "600"]) as process:
        while Path(f"/proc/{process.pid}/comm").read_text().strip() != "sleep":
            time.sleep(0.1)
        for cpus in (near, far):
            os.sched_setaffinity(process.pid, parse_list(cpus))
            done = _hwnuma(["verify", "--format", "json", str(process.pid)])
            (row,) = json.loads(done.stdout)["processes"]
            answers.append({"status": done.returncode, "found": [_members(each["found"]) for each in row["drift"]]})
        process.kill()
    return answers


def defeaters(_gpus: Sequence[str]) -> dict[str, dict[str, object]]:
    """Provoke what defeats a binding, one after the other, and return what `hwnuma verify` then says: status and names.

    The process that is looked at is on the CPUs of the last node; all memory that it locks is on the first.
    """
    nodes = sorted(_numbered(_NODES, "node").items())
    (_, first), (number, last) = nodes[0], nodes[-1]
    cpus = (last / "cpulist").read_text().strip()
    for path in (_BALANCING, _ZONE_RECLAIM):
        path.write_text("0")
    (_HUGE_PAGES / "enabled").write_text("madvise")
    answers: dict[str, dict[str, object]] = {}
    quiet = ["taskset", "--cpu-list", cpus, "sh", "-c", "echo ready; read line"]
    with _started(quiet) as process:

        def looked() -> dict[str, object]:
            return _defeating(process.pid, cpus)

        answers["nothing"] = looked()
        _BALANCING.write_text("1")
        answers["numa_balancing"] = looked()
        _BALANCING.write_text("0")
        _ZONE_RECLAIM.write_text("1")
        answers["zone_reclaim_mode"] = looked()
        _ZONE_RECLAIM.write_text("0")
        (_HUGE_PAGES / "enabled").write_text("always")
        answers["transparent_huge_pages"] = looked()
        (_HUGE_PAGES / "enabled").write_text("madvise")
        filling = [
            "exec",
            "--cpus",
            cpus,
            "--nodes",
            str(number),
            "--memory",
            "bind",
            "--",
            sys.executable,
            "-c",
            _FILL,
        ]
        with _started([*_HWNUMA, *filling, str(number)]):
            answers["node_nearly_full"] = looked()
        answers["emptied"] = looked()
        with _without_memory_of(number, process.pid):
            answers["cpuset_mems"] = looked()
        answers["given back"] = looked()
    locking = ["taskset", "--cpu-list", (first / "cpulist").read_text().strip(), sys.executable, "-c", _LOCK, cpus]
    with _started(locking) as process:
        answers["pinned_elsewhere"] = _defeating(process.pid, cpus)
    return answers


_BALANCING, _ZONE_RECLAIM = Path("/proc/sys/kernel/numa_balancing"), Path("/proc/sys/vm/zone_reclaim_mode")
_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage")
_CGROUPS = Path("/sys/fs/cgroup")

# Take what is free of a node, but for a twentieth of it, in a file of memory: the kernel fills it by itself.
_FILL = """
import os, sys
from hwnuma.processes.procfs import node_memory
memory = node_memory(int(sys.argv[1]))
file = os.memfd_create("fill")
os.posix_fallocate(file, 0, memory.free + memory.reclaimable - memory.total // 20)
print("ready", flush=True)
sys.stdin.readline()
"""

# Lock memory where it is, and only then go to other CPUs.
_LOCK = """
import ctypes, mmap, os, sys
from tests.vm.machines import parse_list
memory = mmap.mmap(-1, 8 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory[:] = b"x" * (8 << 20)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
assert ctypes.CDLL(None).mlock(ctypes.c_void_p(start), ctypes.c_size_t(8 << 20)) == 0
os.sched_setaffinity(0, parse_list(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
"""


@contextmanager
def _started(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A command that prints a line when it is ready, and ends with the block."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n", command
            yield process
        finally:
            process.kill()


@contextmanager
def _without_memory_of(node: int, pid: int) -> Iterator[None]:
    """For the length of a block, let a process have memory of all nodes but one, by a cgroup's cpuset.mems."""
    (_CGROUPS / "cgroup.subtree_control").write_text("+cpuset")
    cgroup = _CGROUPS / "without"
    cgroup.mkdir()
    others = [str(each) for each in _read_list(_NODES / "has_memory") if each != node]
    (cgroup / "cpuset.mems").write_text(",".join(others))
    affinity = os.sched_getaffinity(pid)

    def move(there: Path) -> None:
        (there / "cgroup.procs").write_text(str(pid))
        os.sched_setaffinity(pid, affinity)  # before Linux 6.2, going to another cpuset resets it

    move(cgroup)
    try:
        yield
    finally:
        move(_CGROUPS)


def _defeating(pid: int, cpus: str) -> dict[str, object]:
    done = _hwnuma(["verify", "--cpus", cpus, "--format", "json", str(pid)])
    (row,) = json.loads(done.stdout)["processes"]
    return {"status": done.returncode, "names": [each["name"] for each in row["defeaters"]]}


def bench(_gpus: Sequence[str]) -> dict[str, object]:
    """Measure the whole matrix, and look from outside where the buffers are, until it ends."""
    command = [sys.executable, "-c", _BENCH]
    seen: list[list[dict[int, int]]] = []
    with tempfile.TemporaryFile("w+") as output, subprocess.Popen(command, stdout=output) as process:
        while process.poll() is None:
            seen.append(_large_mappings(process.pid))
            time.sleep(1)
        output.seek(0)
        measured = json.load(output)
    pages = measured["buffer_bytes"] // os.sysconf("SC_PAGESIZE")
    whole = [[nodes for nodes in each if sum(nodes.values()) == pages] for each in seen]
    most = max(whole, key=len)
    alone = {node: sum(nodes == {node: pages} for nodes in most) for node in _numbered(_NODES, "node")}
    return {"status": process.returncode, "measured": measured, "alone": alone,
            "elsewhere": sum(len(nodes) > 1 for each in whole for nodes in each)}  # fmt: skip


def _large_mappings(pid: int) -> list[dict[int, int]]:
    """Return how many pages each anonymous mapping of at least 2 MiB has on which node, as the kernel has it now."""
    try:
        lines = Path(f"/proc/{pid}/numa_maps").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return []
    found = []
    for line in lines:
        words = line.split()
        nodes = {int(name[1:]): int(count) for name, _, count in (word.partition("=") for word in words)
                 if name[:1] == "N" and name[1:].isdigit()}  # fmt: skip
        if sum(nodes.values()) >= _LARGE and not any(word.startswith(("file=", "heap", "stack")) for word in words):
            found.append(nodes)
    return found


# Touch memory as a rank of a job: late binds it after it has touched, unless it is bound already; early, before. Then
# say how much private memory is on other nodes than the rank's own, and stay to be looked at.
_TOUCH = """
import os, sys, time
from tests.vm.machines import parse_list
variant, own, far, folder = sys.argv[1], int(os.environ["LOCAL_RANK"]), int(sys.argv[2]), sys.argv[3]
def go_to(node):
    os.sched_setaffinity(0, parse_list(open(f"/sys/devices/system/node/node{node}/cpulist").read()))
if variant == "early":
    go_to(own)
elif "HWNUMA_BOUND_CPUS" not in os.environ:
    go_to(far)
memory = bytearray(32 << 20)
memory[::4096] = b"x" * (len(memory) // 4096)
go_to(own)
remote = 0
for line in open("/proc/self/numa_maps"):
    if " file=" not in line:
        counts = [word[1:].split("=") for word in line.split() if word[0] == "N" and "=" in word]
        remote += sum(int(pages) * 4096 for node, pages in counts if int(node) != own)
mode = "node" if "HWNUMA_BOUND_CPUS" in os.environ else "none"
with open(f"{folder}/{variant}-{mode}-{own}", "w") as file:
    file.write(str(remote))
time.sleep(5)
"""


def compare(gpus: Sequence[str]) -> Facts:
    """Compare a program in two modes, in two variants, and return remote bytes as told and as the program counted."""
    last = max(_numbered(_NODES, "node"))
    os.environ["HWNUMA_GPUS"] = ",".join(gpus[:2])
    answers: Facts = {}
    with tempfile.TemporaryDirectory() as folder:
        for variant in ("late", "early"):
            command = [sys.executable, "-S", "-c", _TOUCH, variant, str(last), folder]
            told = ["bench", "--compare", "none,node", "--ranks", "2", "--rounds", "1", "--format", "json", "--"]
            done = _hwnuma([*told, *command])
            if done.returncode:
                raise RuntimeError(f"status {done.returncode}: {done.stderr}")
            found = json.loads(done.stdout)
            counted = {path.name: int(path.read_text()) for path in Path(folder).glob(f"{variant}-*")}
            answers[variant] = {
                each["mode"]: {
                    "told": each["remote_bytes"] and each["remote_bytes"]["median"],
                    "counted": sum(size for name, size in counted.items() if f"-{each['mode']}-" in name),
                    "outside": each["threads_outside"] and each["threads_outside"]["high"],
                    "processes": each["processes"] and each["processes"]["median"],
                }
                for each in found["modes"]
            }
            answers[f"{variant} in words"] = [*found["verdict"], *found["notes"]]
    del os.environ["HWNUMA_GPUS"]
    return answers


# In a process of its own, since the dynamic loader reads its variable as a process starts.
_COPIES = """
import json, sys
from hwnuma.hwloc.topology import Topology
from hwnuma.devices.discovery import find_gpus
from hwnuma.measure.gpu_copies import measure_copies, verdicts
from hwnuma.policy.locality import locate
with Topology.from_this_system() as topology:
    found = find_gpus(sys.argv[1], topology.machine(), {})
    localities = locate(topology.machine(), found.all)
    measured, notes = measure_copies(topology, topology.machine(), found, localities, 0.0, 4 << 20, runtime="cuda")
gpus = [each.as_dict() for each in measured]
print(json.dumps({"gpus": gpus, "verdicts": verdicts(measured), "notes": notes}))
"""


def copies(gpus: Sequence[str]) -> Facts:
    """Let made-up GPUs on the displays' places copy, the faster the nearer memory is, and return what was measured."""
    from tests.fake_cuda import FakeCuda, FakeCudaGpu, calls

    distances = {node: (path / "distance").read_text().split() for node, path in _numbered(_NODES, "node").items()}
    own = {address: int((_PCI_DEVICES / address / "numa_node").read_text()) for address in gpus}
    fakes = [
        FakeCudaGpu(address, {other: 10_000 / int(far) for other, far in enumerate(distances[own[address]])})
        for address in reversed(gpus)
    ]
    with tempfile.TemporaryDirectory() as folder:
        environment = FakeCuda(fakes).env(Path(folder))
        command = [sys.executable, "-c", _COPIES, ",".join(gpus)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        made = calls(Path(folder))
    facts: Facts = json.loads(done.stdout)
    facts["processes"] = len({pid for pid, _ in made})
    return facts


def tables(gpus: Sequence[str]) -> dict[str, str]:
    """Return what `hwnuma plan` prints in each mode."""
    words = ["plan", "--gpus", ",".join(gpus), "--mode"]
    return {mode: _hwnuma([*words, mode]).stdout for mode in MODES}


def capture(_gpus: Sequence[str]) -> int:
    """Let hwnuma save this machine where the host finds it."""
    return _hwnuma(["capture", _CAPTURED]).returncode


def plans(gpus: Sequence[str]) -> dict[str, str]:
    """Plan for this machine in every mode by every set of options."""
    from tests.captured_plans import Task, answer

    return answer(Task(words=("--gpus", ",".join(gpus))))


_SECTIONS: dict[str, Callable[[Sequence[str]], object]] = {
    "kernel": kernel,
    "topology": topology,
    "plan": plan,
    "plan-node-zero": plan_node_zero,
    "torchrun": torchrun,
    "torch": torch_binding,
    "exec": execute,
    "memory": memory,
    "memory-alone": memory_alone,
    "defeaters": defeaters,
    "bench": bench,
    "compare": compare,
    "copies": copies,
    "tables": tables,
    "capture": capture,
    "plans": plans,
}


def main() -> None:
    """Print the facts of the sections that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", default="", help="PCI addresses of the GPUs in rank order, with commas")
    parser.add_argument("sections", nargs="+", choices=_SECTIONS)
    options = parser.parse_args()
    gpus = options.gpus.split(",")
    answer: dict[str, object] = {}
    failed: dict[str, str] = {}
    for name in options.sections:
        try:
            answer[name] = _SECTIONS[name](gpus)
        except Exception:  # noqa: BLE001 -- whatever it is, the host shows it in the tests that need this section
            failed[name] = traceback.format_exc()
    print(json.dumps({**answer, "failed": failed}))


if __name__ == "__main__":
    main()
