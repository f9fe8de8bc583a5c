"""What the kernel tells of network cards and libhwloc does not: rates, link layers, bonds, and who may open them.

The one door to ``/sys/class/infiniband``, ``/sys/class/net`` and the devices' files. What it finds are notes: info
attributes of the topology's network devices, by the names of `hwnuma.model.nic`, for `Topology.annotate`. Only devices
of some hardware are looked at; what cannot be read is not noted.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from hwnuma.model.nic import (
    ACCESS,
    BOND,
    INTERFACE_SPEED,
    INTERFACE_STATE,
    PHYSICAL_FUNCTION,
    PORT_LINK_LAYER,
    PORT_RATE,
    SLINGSHOT,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

Notes = dict[tuple[str, str], dict[str, str]]


def read_notes(root: str | os.PathLike[str] = "/") -> Notes:
    """Read what sysfs tells of all network cards.

    Args:
        root: where the system's ``sys`` and ``dev`` are, if it is not this one's own (``HWLOC_FSROOT``).

    Returns:
        Info attributes by class ("infiniband" or "net") and device name.
    """
    tree = Path(root)
    notes: Notes = {}
    uverbs = _uverbs(tree)
    for device in _devices(tree / "sys/class/infiniband"):
        notes["infiniband", device.name] = {
            **_ports(device), **_function(device), **_access(tree, "infiniband", uverbs.get(device.name))
        }  # fmt: skip
    for device in _devices(tree / "sys/class/net"):
        notes["net", device.name] = {**_interface(device), **_function(device), **_slingshot(tree, device)}
    _name_bonds(tree, notes)
    return {key: {name: value for name, value in values.items() if value} for key, values in notes.items()}


def _devices(folder: Path) -> Iterator[Path]:
    """The devices of a class that are parts of some hardware: they have a ``device``."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if (entry / "device").exists():
            yield entry


def _text(path: Path) -> str:
    """The one line of a file; "" if there is none, or the driver refuses (EINVAL: the speed of what is down)."""
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def _ports(device: Path) -> dict[str, str]:
    found = {}
    number = 1
    while (port := device / "ports" / str(number)).is_dir():
        found[PORT_RATE.format(number)] = _text(port / "rate")
        found[PORT_LINK_LAYER.format(number)] = _text(port / "link_layer")
        number += 1
    return found


def _function(device: Path) -> dict[str, str]:
    """The physical function that the device's is a virtual one of: only where this system has both."""
    physical = device / "device" / "physfn"
    return {PHYSICAL_FUNCTION: physical.readlink().name} if physical.is_symlink() else {}


def _uverbs(tree: Path) -> dict[str, str]:
    """The device file's name of each OpenFabrics device."""
    folder = tree / "sys/class/infiniband_verbs"
    return {_text(entry / "ibdev"): entry.name for entry in _entries(folder) if entry.name.startswith("uverbs")}


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _access(tree: Path, folder: str, name: str | None) -> dict[str, str]:
    """Why a device's file cannot be opened: a container shows every card in ``/sys``, and has files of its own only."""
    path = f"/dev/{folder}/{name}" if folder else f"/dev/{name}"
    if name is None:
        return {ACCESS: f"it has no file in /dev/{folder}"}
    file = tree / path.lstrip("/")
    if not file.exists():
        return {ACCESS: f"there is no {path} here"}
    return {} if os.access(file, os.R_OK | os.W_OK) else {ACCESS: f"{path} may not be read and written"}


def _interface(device: Path) -> dict[str, str]:
    return {INTERFACE_STATE: _text(device / "operstate"), INTERFACE_SPEED: _text(device / "speed")}


def _slingshot(tree: Path, device: Path) -> dict[str, str]:
    """Slingshot's own device (``cxi0``) on the card that an interface is of."""
    names = sorted(entry.name for entry in _entries(device / "device" / "cxi"))
    return {SLINGSHOT: names[0], **_access(tree, "", names[0])} if names else {}


def _name_bonds(tree: Path, notes: Notes) -> None:
    """Note the bond of each interface that is a mere member of one.

    Where the driver has made one OpenFabrics device of several bonded functions (mlx5's RoCE LAG), that device stands
    for the bond: of the bond's members it is the only one that has any, and it is no mere member.
    """
    bonds, fabrics = {}, Counter[str]()
    for kind, name in notes:
        master = tree / "sys/class/net" / name / "master"
        if kind == "net" and (master / "bonding").is_dir():
            bonds[name] = master.readlink().name
            fabrics[bonds[name]] += bool(_entries(tree / "sys/class/net" / name / "device/infiniband"))
    members = Counter(bonds.values())
    for name, bond in bonds.items():
        has_fabric = bool(_entries(tree / "sys/class/net" / name / "device/infiniband"))
        if not (has_fabric and fabrics[bond] == 1 and members[bond] > 1):
            notes["net", name][BOND] = bond
