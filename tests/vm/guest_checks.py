"""Print, as one JSON object, facts about the machine that this runs on. It runs in a guest.

    python -m tests.vm.guest_checks kernel

Each argument is a section of the answer. ``kernel`` is what the kernel itself says, read from sysfs and procfs
by nothing but this file, so that it can be held against what QEMU was asked for and against what hwnuma says.
Sets are sorted lists of the kernel's numbers; groups of CPUs are sorted lists of such lists.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from .machines import parse_list

Facts = dict[str, object]

_CPUS = Path("/sys/devices/system/cpu")
_NODES = Path("/sys/devices/system/node")
_PCI_DEVICES = Path("/sys/bus/pci/devices")
_DISPLAY_CLASS = "0x038000"


def _members(text: str) -> list[int]:
    return sorted(parse_list(text))


def _read_list(path: Path) -> list[int]:
    return _members(path.read_text())


def _groups(sets: Iterable[Iterable[int]]) -> list[list[int]]:
    """Return different sets of CPUs in order, each once."""
    return sorted({tuple(sorted(members)) for members in sets})  # type: ignore[arg-type]


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


def kernel() -> Facts:
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


_SECTIONS: dict[str, Callable[[], Facts]] = {"kernel": kernel}


def main(arguments: list[str]) -> None:
    """Print the facts of the sections that are asked for."""
    print(json.dumps({name: _SECTIONS[name]() for name in arguments}))


if __name__ == "__main__":
    main(sys.argv[1:])
