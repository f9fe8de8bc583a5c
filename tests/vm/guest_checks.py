"""Print, as one JSON object, facts about the machine that this runs on. It runs in a guest.

    python -m tests.vm.guest_checks --gpus 0000:21:00.0,0000:41:00.0 kernel topology torch

Each argument is a section of the answer:

- ``kernel``: what the kernel itself says, read from sysfs and procfs by nothing but this file, so that it can be
  held against what QEMU was asked for and against what hwnuma says;
- ``topology``: the same facts as hwnuma's Topology has them;
- ``plan`` and ``plan-node-zero``: what hwnuma plans for each rank in each mode; in the second a GPU of which nothing
  says where it is counts as on node 0, as torch has it;
- ``torch``: where torch.numa.binding puts each rank in each mode;
- ``exec``: the CPUs that a command really has that `hwnuma exec` started, for each rank in one mode;
- ``memory``: the CPUs, policies and nodes of private pages of a command that `hwnuma exec --memory bind` started, for
  each rank; where memory is ahead of migrating it to the last node, and after; what `hwnuma verify` says of a process
  before and after it was moved away;
- ``capture``: nothing but the exit status of `hwnuma capture`, which leaves its file for the host.

Sets are sorted lists of the kernel's numbers; groups of CPUs are sorted lists of such lists. What one rank gets in a
mode is its CPUs, or the name of the error's type where it gets none. A section that fails is a traceback, and the
others are there all the same.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import subprocess
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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
    from hwnuma.topology import Topology

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
    """Let torch bind a process for each rank in each mode, and read back what the kernel then has for it.

    There is no CUDA here, so torch is told which PCI devices its GPUs are. All else that it does is its own: it
    looks in this kernel's sysfs and asks this kernel for affinities.
    """
    import torch.cuda

    torch.cuda.device_count = lambda: len(gpus)
    torch.cuda.get_device_properties = lambda index: _cuda_properties(gpus[index])  # type: ignore[misc,assignment]
    # A process for each, since a bound one cannot be unbound without knowing what torch did.
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        jobs = [(mode, rank) for mode in MODES for rank in range(len(gpus))]
        answers = iter(pool.starmap(_bind_as_torch, jobs, chunksize=1))
    return {mode: [next(answers) for _ in gpus] for mode in MODES}


def _cuda_properties(address: str) -> types.SimpleNamespace:
    domain, bus, device_and_function = address.split(":")
    return types.SimpleNamespace(
        pci_domain_id=int(domain, 16),
        pci_bus_id=int(bus, 16),
        pci_device_id=int(device_and_function.split(".")[0], 16),
    )


def _bind_as_torch(mode: str, rank: int) -> list[int] | str:
    from torch.numa import binding

    # To log the error that it raises, torch first imports much of itself, which takes a guest minutes.
    logging.disable()
    options = binding.NumaOptions(affinity_mode=binding.AffinityMode(mode))
    try:
        binding._maybe_apply_numa_binding_to_current_process(gpu_index=rank, numa_options=options)
    except Exception as error:  # noqa: BLE001 -- torch raises whatever it stumbles over
        return type(error).__name__
    return sorted(os.sched_getaffinity(0))


def execute(gpus: Sequence[str]) -> list[dict[str, object]]:
    """Let hwnuma start a command for each rank, and return what the kernel says there of the CPUs allowed to it."""
    answers: list[dict[str, object]] = []
    for rank in range(len(gpus)):
        command = [*_HWNUMA, "exec", "--gpus", ",".join(gpus), "--mode", EXEC_MODE, "--local-rank", str(rank), "--"]
        command += ["grep", "^Cpus_allowed_list:", "/proc/self/status"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        cpus = _members(done.stdout.partition(":")[2])
        answers.append({"status": done.returncode, "cpus": cpus, "stderr": done.stderr})
    return answers


# Private memory on the first node, bound late to the last one: where it is as the kernel has it, then migrated.
_MIGRATE = """
import json, os, sys
from hwnuma import Binding, CpuSet, NodeSet, Topology
from hwnuma.binding import apply
from tests.vm.guest_checks import _nodes_of_private_pages
first, last, node = CpuSet(sys.argv[1]), CpuSet(sys.argv[2]), NodeSet(sys.argv[3])
os.sched_setaffinity(0, first)
memory = bytearray(8 << 20)
memory[::4096] = b"x" * (len(memory) // 4096)
nodes = [_nodes_of_private_pages(open("/proc/self/numa_maps").read())]
with Topology.for_binding(node) as topology:
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
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        maps = [line for line in told.splitlines() if " kernelpagesize_kB=" in line]
        allowed = next(line for line in told.splitlines() if line.startswith("Cpus_allowed_list:"))
        ranks.append(
            {
                "cpus": _members(allowed.partition(":")[2]),
                "policies": sorted({line.split()[1] for line in maps}),
                "nodes": _nodes_of_private_pages("\n".join(maps)),
            }
        )
    nodes = sorted(_numbered(_NODES, "node").items())
    (_, first), (number, last) = nodes[0], nodes[-1]
    places = [(first / "cpulist").read_text().strip(), (last / "cpulist").read_text().strip(), str(number)]
    migrated = subprocess.run([sys.executable, "-c", _MIGRATE, *places], capture_output=True, text=True, check=True)
    return {"ranks": ranks, "migrated": json.loads(migrated.stdout), "verified": _verified(*places[:2])}


def _verified(near: str, far: str) -> list[dict[str, object]]:
    """Return what verify says of a process in its place, and moved to other CPUs."""
    answers = []
    with subprocess.Popen([*_HWNUMA, "exec", "--cpus", near, "--", "sleep", "600"]) as process:
        while Path(f"/proc/{process.pid}/comm").read_text().strip() != "sleep":
            time.sleep(0.1)
        for cpus in (near, far):
            os.sched_setaffinity(process.pid, parse_list(cpus))
            command = [*_HWNUMA, "verify", "--format", "json", str(process.pid)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            (row,) = json.loads(done.stdout)["processes"]
            answers.append({"status": done.returncode, "found": [_members(each["found"]) for each in row["drift"]]})
        process.kill()
    return answers


def capture(_gpus: Sequence[str]) -> int:
    """Let hwnuma save this machine where the host finds it."""
    return subprocess.run([*_HWNUMA, "capture", _CAPTURED], check=False).returncode


_SECTIONS: dict[str, Callable[[Sequence[str]], object]] = {
    "kernel": kernel,
    "topology": topology,
    "plan": plan,
    "plan-node-zero": plan_node_zero,
    "torch": torch_binding,
    "exec": execute,
    "memory": memory,
    "capture": capture,
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
