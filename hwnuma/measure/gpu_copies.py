"""How fast each GPU copies from and to host memory: on its near node, a far one, each other, and wherever it comes.

Each sample takes memory anew in a thread of its own, which is bound, and whose memory is bound, by hwnuma's own calls;
each page is looked up before it counts (`hwnuma.measure.host_memory`). The memory is pinned, so the GPU reads it by
itself. "Unbound" is what a thread gets that nobody has bound: a range, since it depends on where the kernel put it.

The work is done in a child process (`hwnuma.devices.watched`): a context on each GPU is made there and nowhere else,
and a driver that hangs or ends its process leaves the rest of what is measured alone.
"""

from __future__ import annotations

import random
import threading
import time

from hwnuma.devices.gpu_runtime import CUDA, HIP, GpuInUse, GpuRuntime
from hwnuma.devices.watched import NoAnswerError, ask_within
from hwnuma.errors import GpuRuntimeError, HwnumaError
from hwnuma.measure.as_data import estimate_as_data
from hwnuma.measure.host_memory import HostMemory, Spot
from hwnuma.measure.statistics import estimate
from hwnuma.model.bitmap import NodeSet
from hwnuma.model.value import Value, replace
from hwnuma.processes.procfs import node_memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from hwnuma.hwloc.topology import Topology
    from hwnuma.model.gpu import FoundGpus, Gpu
    from hwnuma.model.machine import Machine
    from hwnuma.model.measured import Estimate
    from hwnuma.policy.locality import Locality

TO_DEVICE, TO_HOST = "host_to_device", "device_to_host"
NEAR, FAR, OTHER, UNBOUND = "near", "far", "other", "unbound"

# At 50 GB/s a copy of so much takes a millisecond, a hundred times what it takes to ask the driver for it.
_BYTES = 64 << 20
_PAGE = 4096
# Of a node's free memory, no more than this part is taken.
_SHARE = 10

# A copy ahead of those that count wakes the link; then so many are one sample.
_COPIES = 5
_LEAST_ROUNDS, _MOST_ROUNDS = 3, 15

# A driver without persistence mode takes seconds to start, for each GPU.
_PATIENCE = 120.0

_GIGA = 1e9


class Copy(Value):
    """One way of copying, measured.

    Attributes:
        direction: "host_to_device" or "device_to_host".
        place: "near", "far", "other" or "unbound".
        memory_node: the NUMA node of the host's memory; None if unbound.
        at_once: all GPUs copied at the same time.
        rate: bytes per second; if unbound, `low` and `high` are the least and the most that was seen.
        samples: how many measurements it is made of.
    """

    direction: str
    place: str
    memory_node: int | None
    at_once: bool
    rate: Estimate
    samples: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain values."""
        return {
            "direction": self.direction,
            "place": self.place,
            "memory_node": self.memory_node,
            "at_once": self.at_once,
            "bytes_per_second": estimate_as_data(self.rate),
            "samples": self.samples,
        }


class GpuCopies(Value):
    """One GPU's copies.

    Attributes:
        gpu: which.
        runtime: who copied: "cuda" or "hip".
        near: the NUMA nodes that it is on.
        far: the node that is farthest from there; None if there is no other.
        copies: what was measured.
        error: why nothing was, or not all.
    """

    gpu: Gpu
    runtime: str = ""
    near: NodeSet = NodeSet()
    far: int | None = None
    copies: tuple[Copy, ...] = ()
    error: str = ""

    def rate(self, place: str, direction: str = TO_DEVICE, *, at_once: bool = False) -> Estimate | None:
        """How fast one way of copying was, or None if it was not measured."""
        wanted = (direction, place, at_once)
        return next((c.rate for c in self.copies if (c.direction, c.place, c.at_once) == wanted), None)

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain values."""
        return {
            "gpu": self.gpu.as_dict(),
            "runtime": self.runtime,
            "near_nodes": str(self.near),
            "far_node": self.far,
            "copies": [copy.as_dict() for copy in self.copies],
            "error": self.error,
        }


class _Target(Value):
    """A GPU to measure, and the spots to measure it from, by name and node."""

    gpu: Gpu
    device: int
    near: NodeSet
    far: int | None
    spots: tuple[tuple[str, Spot], ...]


# ---- what is asked for ---------------------------------------------------------------------------------------


def measure_copies(
    topology: Topology,
    machine: Machine,
    found: FoundGpus,
    localities: Sequence[Locality],
    seconds: float,
    memory: int | None = None,
    runtime: str | None = None,
) -> tuple[tuple[GpuCopies, ...], tuple[str, ...]]:
    """Measure copies between the host's memory and each GPU. It makes a context on each, in a process of its own.

    Args:
        topology: this system's.
        machine: the same, with the CPUs that may be used as its allowed ones.
        found: the GPUs.
        localities: of `found.all`, from `hwnuma.policy.locality.locate`.
        seconds: how long it may take, but for the driver's start and three rounds.
        memory: the most bytes to take at once, for each GPU.
        runtime: "cuda" or "hip"; by default that of the GPUs' vendor.

    Returns:
        What was found of each GPU, and notes: what was not measured, and why.
    """
    kind = runtime or _runtime_of(machine, found)
    if kind is None:
        return (), (f"copies to {found.all[0]} were not measured: only NVIDIA's and AMD's GPUs can be asked for them",)
    by_address = {gpu.pci_address: place for gpu, place in reversed(list(zip(found.all, localities, strict=True)))}
    gpus = [gpu for place, gpu in enumerate(found.all) if gpu.pci_address and _is_first(found.all, place)]

    def ask() -> tuple[tuple[GpuCopies, ...], tuple[str, ...]]:
        return _Measurement(topology, machine, GpuRuntime(kind), seconds, memory).measure(gpus, by_address)

    try:
        return ask_within(seconds + _PATIENCE, ask)
    except NoAnswerError as error:
        return (), (f"no copies to GPUs were measured: {kind} was asked, and {error}",)
    except HwnumaError as error:
        return (), (f"no copies to GPUs were measured: {error}",)


def _is_first(gpus: Sequence[Gpu], place: int) -> bool:
    """Of the parts of one GPU (MIG instances) the first stands for all: they share its link."""
    return all(gpu.pci_address != gpus[place].pci_address for gpu in gpus[:place])


def _runtime_of(machine: Machine, found: FoundGpus) -> str | None:
    """Which library drives these GPUs; NVML knows NVIDIA's only, otherwise the first one's vendor says."""
    if found.source == "nvml":
        return CUDA
    device = machine.pci_device(found.all[0].pci_address or "")
    vendors = {_NVIDIA: CUDA, _AMD: HIP}
    return None if device is None else vendors.get(device.vendor_id)


# PCI-SIG's numbers (pci.ids).
_NVIDIA, _AMD = 0x10DE, 0x1002


# ---- in the child --------------------------------------------------------------------------------------------


class _Measurement:
    """Measures all GPUs, alone and at once."""

    def __init__(
        self, topology: Topology, machine: Machine, runtime: GpuRuntime, seconds: float, memory: int | None
    ) -> None:
        self._topology, self._machine, self._runtime = topology, machine, runtime
        self._deadline = time.monotonic() + seconds
        self._memory = memory
        self._samples: dict[tuple[int, str, int | None, str, bool], list[float]] = {}
        self._errors: dict[int, str] = {}

    def measure(
        self, gpus: Sequence[Gpu], localities: Mapping[str | None, Locality]
    ) -> tuple[tuple[GpuCopies, ...], tuple[str, ...]]:
        devices = self._runtime.devices()
        targets = [self._target(gpu, devices, localities) for gpu in gpus if gpu.pci_address in devices]
        notes = tuple(
            f"{gpu} was not measured: {self._runtime.kind} does not show it to this process"
            for gpu in gpus
            if gpu.pci_address not in devices
        )
        self._rounds(targets)
        return tuple(self._result(target) for target in targets), notes

    def _target(self, gpu: Gpu, devices: Mapping[str, int], localities: Mapping[str | None, Locality]) -> _Target:
        """Choose where to measure from; which node is far is said by the kernel's distances, ahead of measuring."""
        near = NodeSet(node.os_index for node in localities[gpu.pci_address].nodes)
        nodes = [
            node
            for node in self._machine.numa_nodes
            if node.memory and node.os_index in self._machine.allowed_nodeset and node.subtype != "GPUMemory"
        ]
        others = [node.os_index for node in nodes if node.os_index not in near and node.cpuset]

        def distance(node: int) -> int:
            return max((self._machine.distances.between(each, node) or 0 for each in near), default=0)

        far = max(others, key=distance, default=None) if near else None
        names = {node.os_index: NEAR if node.os_index in near else OTHER for node in nodes}
        if far is not None:
            names[far] = FAR
        spots = [(names[node.os_index], Spot.on(node, self._machine.allowed_cpuset)) for node in nodes]
        return _Target(gpu, devices[gpu.pci_address or ""], near, far, (*spots, (UNBOUND, Spot())))

    def _rounds(self, targets: Sequence[_Target]) -> None:
        """Each round measures everything once, in another order: what changes with time is not taken for a place."""
        shuffled = random.Random(0).sample  # noqa: S311 -- an order, and no secret
        alone = [([target], name, [spot]) for target in targets for name, spot in target.spots]
        together = [(targets, name, self._spots(targets, name)) for name in (NEAR, FAR, UNBOUND)]
        cells = [*alone, *(cell for cell in together if len(targets) > 1 and len(cell[2]) == len(targets))]
        for number in range(_MOST_ROUNDS):
            for some, name, spots in shuffled(cells, len(cells)):
                self._sample(some, name, spots, at_once=len(some) > 1)
            if number + 1 >= _LEAST_ROUNDS and time.monotonic() > self._deadline:
                break

    def _spots(self, targets: Sequence[_Target], name: str) -> list[Spot]:
        """For each GPU its own spot of that name; fewer than there are GPUs if one has none."""
        return [spot for target in targets for spot in [dict(target.spots).get(name)] if spot is not None]

    def _sample(self, targets: Sequence[_Target], name: str, spots: Sequence[Spot], *, at_once: bool) -> None:
        """Copy once for each of these GPUs, a thread each; those that failed before are left out."""
        working = [(t, s) for t, s in zip(targets, spots, strict=True) if t.gpu.index not in self._errors]
        start = threading.Barrier(max(1, len(working)))
        threads = [
            threading.Thread(target=self._copy, args=(target, name, spot, start, at_once)) for target, spot in working
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _copy(self, target: _Target, name: str, spot: Spot, start: threading.Barrier, at_once: bool) -> None:
        try:
            rates = self._timed(target, spot, start)
        except threading.BrokenBarrierError:  # another GPU failed, and says so itself
            return
        except (HwnumaError, OSError) as error:
            self._errors[target.gpu.index] = str(error)
            start.abort()
            return
        for direction, rate in rates.items():
            self._samples.setdefault((target.gpu.index, name, spot.node, direction, at_once), []).append(rate)

    def _timed(self, target: _Target, spot: Spot, start: threading.Barrier) -> dict[str, float]:
        """Take memory there, pin it, and time copies, all GPUs of this sample from the same moment."""
        spot.take(self._topology)
        memory = HostMemory(self._size(spot))
        try:
            memory.check(spot.node)
            gpu = self._runtime.use(target.device)
            try:
                gpu.allocate(memory.size)
                self._runtime.pin(memory.address, memory.size)
                try:
                    return {way: _rate(start, copy, memory) for way, copy in _ways(gpu).items()}
                finally:
                    self._runtime.unpin(memory.address)
            finally:
                gpu.close()
        finally:
            memory.close()

    def _size(self, spot: Spot) -> int:
        """As much as is good to measure with, or less: what was granted, and a part of what the node has free."""
        nodes = [spot.node] if spot.node is not None else list(self._machine.allowed_nodeset)
        free = [told.free // _SHARE for told in map(node_memory, nodes) if told is not None]
        size = min([_BYTES, *free, *([self._memory] if self._memory else [])])
        size -= size % _PAGE
        if size <= 0:
            raise GpuRuntimeError(f"NUMA node {spot.node} has no memory free to copy from")
        return size

    def _result(self, target: _Target) -> GpuCopies:
        own = {key[1:]: rates for key, rates in self._samples.items() if key[0] == target.gpu.index}
        copies = [
            Copy(direction, name, node, at_once, _estimate(name, rates), len(rates))
            for (name, node, direction, at_once), rates in own.items()
        ]
        copies.sort(key=lambda copy: (copy.at_once, copy.direction == TO_HOST, _ORDER.index(copy.place)))
        error = self._errors.get(target.gpu.index, "")
        return GpuCopies(target.gpu, self._runtime.kind, target.near, target.far, tuple(copies), error)


_ORDER = (NEAR, FAR, OTHER, UNBOUND)


def _ways(gpu: GpuInUse) -> dict[str, Callable[[int, int], None]]:
    return {TO_DEVICE: gpu.copy_to_device, TO_HOST: gpu.copy_to_host}


def _rate(start: threading.Barrier, copy: Callable[[int, int], None], memory: HostMemory) -> float:
    """Bytes per second of some copies, after one that does not count."""
    copy(memory.address, memory.size)
    start.wait()
    began = time.perf_counter()
    for _ in range(_COPIES):
        copy(memory.address, memory.size)
    return _COPIES * memory.size / (time.perf_counter() - began)


def _estimate(name: str, rates: Sequence[float]) -> Estimate:
    found = estimate(rates, most_is_best=True)
    return replace(found, low=min(rates), high=max(rates)) if name == UNBOUND else found


# ---- in words ------------------------------------------------------------------------------------------------


def verdicts(measured: Sequence[GpuCopies]) -> tuple[str, ...]:
    """Say of each GPU what binding gives it, a sentence each."""
    return tuple(_verdict(each) for each in measured)


def _verdict(copies: GpuCopies) -> str:
    who = f"GPU {copies.gpu.index}"
    near, far, unbound = (copies.rate(place) for place in (NEAR, FAR, UNBOUND))
    if copies.error:
        return f"{who}: not measured: {copies.error}"
    if unbound is None or near is None:
        return f"{who}: nothing says which NUMA node it is on, so near and far cannot be told apart"
    if far is None:
        return f"{who}: {_giga(near.median)} GB/s from the only NUMA node: nothing to gain from binding its copies"
    said = f"{who}: near {_giga(near.median)} GB/s, far {_giga(far.median)} GB/s, unbound {_range(unbound)}"
    if near.overlaps(far) and near.overlaps(unbound):
        return f"{said}: no difference"
    least, most = (f"{near.median / each:.1f}" for each in (unbound.high, unbound.low))
    return f"{said}: binding gives {least}-{most} ×"  # noqa: RUF001 -- the sign for times


def _range(found: Estimate) -> str:
    low, high = _giga(found.low), _giga(found.high)
    return low if low == high else f"{low}-{high}"


def _giga(rate: float) -> str:
    """GB/s as people say them: with a decimal where a whole number would be too coarse."""
    return f"{rate / _GIGA:.0f}" if rate >= 10 * _GIGA else f"{rate / _GIGA:.1f}"
