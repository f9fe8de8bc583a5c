"""AMD's GPUs as ROCm has them: in its order, and each part of a partitioned GPU (DPX to CPX) as a device of its own.

The one door to ``/sys/class/kfd``, which needs no driver's library and wakes no GPU. What is relied on:

- ROCm takes the nodes of KFD's topology in the order of their numbers, and leaves out those of which the kernel
  withholds ``gpu_id`` (a container's device cgroup), or whose ``/dev/dri/renderD*`` is not there
  (ROCm/ROCR-Runtime, libhsakmt/src/topology.c; its amd_topology.cpp makes a GPU of each that has SIMDs).
- A node's ``location_id`` is the PCI bus, device and function; where a GPU has several nodes, the number of the
  partition is or'ed into the function (torvalds/linux, drivers/gpu/drm/amd/amdkfd/kfd_topology.c), or by some of AMD's
  own drivers stands in bits 28 to 31 (ROCm/rocm_smi_lib, CHANGELOG.md). Domain, bus and device are right in both, the
  function in neither: a device with several GPUs among its functions is told apart only where none has partitions.
- Partitions of a GPU share its ``unique_id`` or have one each, as the kernel's version is (amdgpu_xcp.c).
"""

from __future__ import annotations

import os

from hwnuma.devices.pci import TopologyGpus
from hwnuma.errors import GpuNotFoundError
from hwnuma.model.gpu import Gpu, pci_address_key
from hwnuma.model.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hwnuma.model.machine import Machine

_NODES = "/sys/class/kfd/kfd/topology/nodes"
_MODE = "/sys/bus/pci/devices/{}/current_compute_partition"
# More than any machine has nodes; and a page, which is all that sysfs has in a file.
_MOST_NODES, _PAGE = 1024, 4096
_LONGEST_MODE = 16


class AmdGpus(Value):
    """What KFD tells of AMD's GPUs.

    Attributes:
        gpus: those that ROCm has here, in its order; a partitioned GPU stands in it once for each partition. Empty
            where KFD tells of none, and the topology's are meant.
        doubt: why they are not known though KFD tells of some, a sentence that says what to do; "" if they are.
    """

    gpus: tuple[Gpu, ...] = ()
    doubt: str = ""


def read_amd_gpus(machine: Machine, root: str = "") -> AmdGpus:
    """Read which AMD GPUs and partitions ROCm has on this system.

    Args:
        machine: this system, for the GPUs' addresses and names.
        root: what is ahead of ``/sys`` and ``/dev`` (``HWLOC_FSROOT``); "" for this system's own.
    """
    root = root.rstrip("/")
    nodes, some_withheld = _read_nodes(root)
    if not nodes:
        return AmdGpus()
    try:
        known = TopologyGpus(machine, "amd").gpus()
    except GpuNotFoundError:
        known = ()
    matched = _matched(nodes, known, some_withheld=some_withheld)
    if isinstance(matched, str):
        return AmdGpus(doubt=_doubt(matched))
    # Where none can be opened, ROCm has none: who plans is not who runs.
    here = [node for node in nodes if node.is_here] or nodes
    modes = {address: _read_mode(root, address) for address in {matched[node.number].pci_address for node in here}}
    gpus = (
        replace(gpu, index=index, uuid=node.uuid, compute_partition=modes[gpu.pci_address])
        for index, (node, gpu) in enumerate((node, matched[node.number]) for node in here)
    )
    return AmdGpus(tuple(gpus))


def _doubt(why: str) -> str:
    return (
        f"of which AMD GPU each of ROCm's devices is cannot be told ({why}): each GPU is counted once; name the PCI "
        "addresses as often as they have partitions, in ROCm's order (--gpus A,A,B,B)"
    )


# ---- which GPU each node is of -----------------------------------------------------------------------------------


class _Node(Value):
    """A node of KFD's topology that is a GPU, or a part of one."""

    number: int
    slot: tuple[int, ...]  # PCI domain, bus and device
    function: int
    uuid: str | None
    is_here: bool  # its file is in /dev


def _matched(nodes: Sequence[_Node], known: Iterable[Gpu], *, some_withheld: bool) -> dict[int, Gpu] | str:
    """The GPU of each node, by the node's number; or a clause that says why that cannot be told."""
    gpus: dict[tuple[int, ...], dict[int, Gpu]] = {}
    for gpu in known:
        *slot, function = pci_address_key(gpu.pci_address or "")
        gpus.setdefault(tuple(slot), {})[function] = gpu
    found: dict[int, Gpu] = {}
    for node in nodes:
        there = gpus.get(node.slot, {})
        address = "{:04x}:{:02x}:{:02x}".format(*node.slot)
        if not there:
            return f"the topology has no AMD GPU at {address}"
        functions = sorted(each.function for each in nodes if each.slot == node.slot)
        if len(there) > 1 and (some_withheld or functions != sorted(there)):
            return f"{len(there)} GPUs are functions of one device, {address}"
        found[node.number] = there[node.function] if len(there) > 1 else next(iter(there.values()))
    return found


# ---- the files -----------------------------------------------------------------------------------------------------


def _read_nodes(root: str) -> tuple[list[_Node], bool]:
    """The nodes that are GPUs, by number; and whether the kernel withholds some."""
    try:
        names = os.listdir(f"{root}{_NODES}")  # noqa: PTH208 -- light
    except OSError:
        return [], False
    nodes, some_withheld = [], False
    for number in sorted(int(name) for name in names if name.isascii() and name.isdigit())[:_MOST_NODES]:
        properties = _read_properties(f"{root}{_NODES}/{number}/properties")
        if properties is None:
            some_withheld = True
        elif properties.get("simd_count", 0) > 0:
            nodes.append(_node_of(number, properties, root))
    return nodes, some_withheld


def _node_of(number: int, properties: dict[str, int], root: str) -> _Node:
    location, unique = properties.get("location_id", 0), properties.get("unique_id", 0)
    minor = properties.get("drm_render_minor", 0)
    return _Node(
        number,
        (properties.get("domain", 0), location >> 8 & 0xFF, location >> 3 & 0x1F),
        location & 0x7,
        # As ROCm writes it; 0 is that of a GPU that has none.
        f"GPU-{unique:016x}" if unique else None,
        # To open it would wake the GPU. Kernels that do not tell it let ROCm open all.
        not minor or os.path.exists(f"{root}/dev/dri/renderD{minor}"),  # noqa: PTH110 -- light
    )


def _read_properties(path: str) -> dict[str, int] | None:
    """The numbers of a node; None if they cannot be read (EPERM: a device cgroup denies the GPU)."""
    text = _read(path)
    if text is None:
        return None
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isascii() and pair[1].isdigit()}  # noqa: PLR2004


def _read_mode(root: str, address: str | None) -> str | None:
    """How a GPU is partitioned: "SPX" (not), "DPX", "TPX", "QPX" or "CPX"; None if its driver does not tell."""
    mode = (_read(root + _MODE.format(address)) or "").strip()
    return mode if mode.isascii() and mode.isalnum() and len(mode) <= _LONGEST_MODE else None


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123 -- light
            return file.read(_PAGE)
    except OSError:
        return None
