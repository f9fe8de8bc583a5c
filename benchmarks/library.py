"""Rows that time calls of the library within this process."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import hwnuma
from benchmarks.peer import peer
from benchmarks.settings import DGX, Measured, Settings, Skipped
from benchmarks.timing import Timed, calls, difference, in_turn, ratio
from benchmarks.trees import dgx_addresses, dgx_files
from hwnuma.hwloc.copy_out import machine_of
from hwnuma.hwloc.library import lib
from hwnuma.hwloc.topology import _copy_out, _imported
from tests.differential.torch_answers import way_to_mount

# Two GPUs share each node, so that each mode has something to divide.
_SMALL, _SMALL_NODES = "pack:2 numa:2 l3:8 core:4 pu:2", 4  # 256 PUs
_LARGE, _LARGE_NODES = "pack:4 numa:8 l3:16 core:4 pu:2", 32  # 4,096 PUs
_GPUS_PER_NODE = 2


def _planner(machine: hwnuma.Machine, gpus: Sequence[hwnuma.Gpu], mode: hwnuma.AffinityMode) -> Timed:
    """Plan all ranks on a machine that nothing is remembered of from the plan before."""
    pickled = pickle.dumps(machine)

    def prepare() -> Callable[[], object]:
        fresh = pickle.loads(pickled)  # it comes from the line above
        return lambda: hwnuma.plan(fresh, gpus, mode)

    return calls(prepare)


def plan(settings: Settings) -> Measured:
    """All ranks of a DGX, beside PyTorch's own functions on the same machine laid out as files.

    PyTorch reads files of memory, which are quicker than those of a real sysfs.
    """
    with hwnuma.Topology.from_xml_file(DGX) as topology:
        machine = topology.machine()
    gpus = hwnuma.TopologyGpus(machine).gpus()
    found: Measured = {}
    with dgx_files() as tree, TemporaryDirectory(prefix="hwnuma-sys-") as holder:
        way = way_to_mount(Path(holder))
        if way is None:
            raise Skipped("no mount namespace can be had here, in which torch would see the machine's files as /sys")
        arguments = (str(tree), holder, *dgx_addresses())
        with peer("torch", "torch_numa", arguments, settings, way) as torch:
            for mode in hwnuma.AffinityMode:
                works = {"ours": _planner(machine, gpus, mode), "theirs": torch.work(mode.value)}
                times = in_turn(works, settings.rounds)
                found[mode.value] = ratio(times["theirs"], times["ours"])
    return found


def _load(document: bytes) -> object:
    with hwnuma.Topology.from_xml_buffer(document) as topology:
        return topology.machine()


def load(settings: Settings) -> Measured:
    """Load a saved DGX and copy it out, beside pyhwloc."""
    document = DGX.read_bytes()
    with peer("pyhwloc", "pyhwloc_load", (str(DGX),), settings) as pyhwloc:
        works = {"ours": calls(lambda: lambda: _load(document)), "theirs": pyhwloc.work("load")}
        times = in_turn(works, settings.rounds)
    return {"pyhwloc": ratio(times["theirs"], times["ours"])}


def probe(settings: Settings) -> Measured:
    """What it costs that a file is loaded in a process of its own, beyond loading it in this one."""
    document = DGX.read_bytes()

    def load_here() -> object:
        handle = _imported(document, DGX.name, lib.WANT_PCI | lib.WANT_NETWORK | lib.WANT_FIRST_CACHES)
        try:
            return machine_of(_copy_out(handle), DGX.name)
        finally:
            lib.hwloc_topology_destroy(handle)

    works = {"apart": calls(lambda: lambda: _load(document)), "here": calls(lambda: load_here)}
    times = in_turn(works, settings.rounds)
    return {"extra": difference(times["apart"], times["here"])}


def growth(settings: Settings) -> Measured:
    """A machine sixteen times as large with eight times the GPUs."""
    works: dict[str, Timed] = {}
    for size, description, nodes in (("small", _SMALL, _SMALL_NODES), ("large", _LARGE, _LARGE_NODES)):
        works[f"machine {size}"] = calls(_copier(description))
        with hwnuma.Topology.from_synthetic(description) as topology:
            machine = topology.machine()
        gpus = [hwnuma.Gpu(index, numa_node=index // _GPUS_PER_NODE) for index in range(nodes * _GPUS_PER_NODE)]
        for mode in hwnuma.AffinityMode:
            works[f"{mode.value} {size}"] = _planner(machine, gpus, mode)
    times = in_turn(works, settings.rounds)
    parts = ("machine", *(mode.value for mode in hwnuma.AffinityMode))
    return {part: ratio(times[f"{part} large"], times[f"{part} small"]) for part in parts}


def _copier(description: str) -> Callable[[], Callable[[], object]]:
    """A topology's machine(), which it makes once: so of a new topology each time."""
    return lambda: hwnuma.Topology.from_synthetic(description).machine
