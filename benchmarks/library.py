"""Rows that time calls of the library within this process."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hwnuma
from benchmarks.peer import peer
from benchmarks.settings import DGX, Measured, Settings, Skipped
from benchmarks.timing import Figure, Timed, calls, difference, in_turn, ratio
from benchmarks.trees import dgx_addresses, dgx_files
from hwnuma.hwloc.copy_out import machine_of
from hwnuma.hwloc.library import lib
from hwnuma.hwloc.topology import _copy_out, _imported
from hwnuma.model.machine import HOST_BRIDGE, PciDevice
from hwnuma.model.value import replace
from hwnuma.policy.locality import locate
from hwnuma.policy.matching import balanced, nearest
from hwnuma.policy.nearness import nearness_of_all
from hwnuma.report.html import pictures_as_html
from hwnuma.report.picture import picture_of
from hwnuma.report.svg import pictures_as_svg
from hwnuma.report.terminal import picture_as_text
from tests.differential.torch_answers import way_to_mount

# Two GPUs share each node, so that each mode has something to divide.
_SMALL, _SMALL_NODES = "pack:2 numa:2 l3:8 core:4 pu:2", 4  # 256 PUs
_LARGE, _LARGE_NODES = "pack:4 numa:8 l3:16 core:4 pu:2", 32  # 4,096 PUs
_GPUS_PER_NODE = 2

_PAIRS = 72
_GRAPHICS, _INFINIBAND_CONTROLLER = 0x0302, 0x0207


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
            lib.hwnuma_topology_destroy(handle)

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


def draw(settings: Settings) -> Measured:
    """A plan as a picture, from the plan to the text of the file."""
    works: dict[str, Timed] = {}
    for size, description, nodes in (("small", _SMALL, _SMALL_NODES), ("large", _LARGE, _LARGE_NODES)):
        with hwnuma.Topology.from_synthetic(description) as topology:
            machine = topology.machine()
        gpus = [hwnuma.Gpu(index, numa_node=index // _GPUS_PER_NODE) for index in range(nodes * _GPUS_PER_NODE)]
        what = (machine, gpus, locate(machine, gpus), hwnuma.plan(machine, gpus, "exclusive"))
        works[f"text {size}"] = calls(partial(partial, _text, *what))
        works[f"svg {size}"] = calls(partial(partial, _svg, *what))
        works[f"html {size}"] = calls(partial(partial, _html, *what))
    times = in_turn(works, settings.rounds)
    found: Measured = {
        kind: Figure.of([1000 * each for each in times[f"{kind} large"]]) for kind in ("text", "svg", "html")
    }
    return {**found, "growth": ratio(times["text large"], times["text small"])}


def _text(*what: Any) -> str:
    return picture_as_text(picture_of(*what))


def _svg(*what: Any) -> str:
    return pictures_as_svg([picture_of(*what)])


def _html(*what: Any) -> str:
    return pictures_as_html([picture_of(*what)])


def rails(settings: Settings) -> Measured:
    """NICs for 72 GPUs beside their CPUs' plan, and what twice the devices cost."""
    works: dict[str, Timed] = {}
    for size, pairs in (("small", _PAIRS), ("large", 2 * _PAIRS)):
        machine, gpus = _machine_of_pairs(pairs)
        cards = [device for device in machine.pci_devices if device.class_id == _INFINIBAND_CONTROLLER]
        graphics = [device for device in machine.pci_devices if device not in cards]
        distances = [[int(path) for path in row] for row in nearness_of_all(graphics, cards)]
        shown = _machine_of_pairs(pairs * 80 // _PAIRS)[0].pci_devices
        works[f"plan {size}"] = _planner(machine, gpus, hwnuma.AffinityMode.NODE)
        works[f"near {size}"] = calls(partial(partial, nearest, distances))
        works[f"balance {size}"] = calls(partial(partial, balanced, distances))
        works[f"matrix {size}"] = calls(partial(partial, nearness_of_all, shown, shown))
    times = in_turn(works, settings.rounds)
    found: Measured = {}
    for part in ("near", "balance", "matrix"):
        found[part] = ratio(times[f"{part} small"], times["plan small"])
        found[f"{part} growth"] = ratio(times[f"{part} large"], times[f"{part} small"])
    return found


def _machine_of_pairs(pairs: int) -> tuple[hwnuma.Machine, list[hwnuma.Gpu]]:
    """A GB200-like machine: so many GPUs and as many NICs, four of each below a switch, on eight NUMA nodes."""
    with hwnuma.Topology.from_synthetic("pack:8 numa:1 l3:1 core:72 pu:1") as topology:
        machine = topology.machine()
    devices, gpus = [], []
    for pair in range(pairs):
        switch, node = pair // 4, machine.numa_nodes[pair * 8 // pairs]
        above = (f"{switch:04x}:01:00.0", f"{switch:04x}:00:00.0", f"{HOST_BRIDGE}{switch:04x}:00")
        for place, class_id in ((pair % 4, _GRAPHICS), (4 + pair % 4, _INFINIBAND_CONTROLLER)):
            bridges = (f"{switch:04x}:02:{place:02x}.0", *above)
            address = f"{switch:04x}:{3 + place:02x}:00.0"
            nodes = hwnuma.NodeSet([node.os_index])
            devices.append(PciDevice(address, 0x10DE, 0x2941, class_id, "Package", node.cpuset, nodes, bridges=bridges))
        gpus.append(hwnuma.Gpu(pair, devices[-2].address))
    return replace(machine, pci_devices=tuple(devices)), gpus


def _copier(description: str) -> Callable[[], Callable[[], object]]:
    """A topology's machine(), which it makes once: so of a new topology each time."""
    return lambda: hwnuma.Topology.from_synthetic(description).machine
