"""A picture in the words of hwloc's own lstopo, which draws a topology's XML file. Pure.

lstopo(1), "CUSTOM COLORS" and "--append-legend": the info attributes ``lstopoStyle`` of an object and ``lstopoLegend``
of the root. A rank's number stands in each of its cores as a Misc object, hwloc's own for what somebody adds to a
topology (hwloc manual, "Miscellaneous objects"); libhwloc and hwnuma leave both out when they plan on the file.
"""

from __future__ import annotations

from hwnuma.model.bitmap import CpuSet
from hwnuma.model.value import Value
from hwnuma.report.layout import legend_rows
from hwnuma.report.palette import Colour, colour
from hwnuma.report.picture import DISALLOWED, RESERVED, Picture

_NO_RANK = {RESERVED: Colour("#8c959f", "#000000", 0), DISALLOWED: Colour("#ffffff", "#8c959f", 0)}


class Notes(Value):
    """What is written into a topology.

    Attributes:
        cpus: the info attributes of CPUs, by OS index: their style, and ``HwnumaRanks``, the ranks that get them.
        devices: the info attributes of PCI devices, by address.
        labels: what stands in the core of each of these CPUs, by OS index: the lowest of a core.
        root: the info attributes of the whole machine: lines of the legend.
    """

    cpus: dict[int, dict[str, str]]
    devices: dict[str, dict[str, str]]
    labels: dict[int, str]
    root: tuple[tuple[str, str], ...]


def notes_of(picture: Picture, command: str = "") -> Notes:
    """Say what to write into the picture's topology so that lstopo draws the plan."""
    notes = Notes({}, {}, {}, tuple(("lstopoLegend", line) for line in _legend(picture, command)))
    for node, _, cell in picture.cells():
        if cell.mark is not None:
            ranks = {**_style(colour(cell.mark.number)), "HwnumaRanks": str(CpuSet(cell.mark.ranks))}
            notes.cpus.update(dict.fromkeys(cell.given, ranks))
            notes.labels[cell.cpuset.first] = cell.mark.name
        elif cell.state in _NO_RANK:
            notes.cpus.update(dict.fromkeys(cell.cpuset, _style(_NO_RANK[cell.state])))
        for device in node.devices:
            if device.mark is not None:
                notes.devices[device.address] = _style(colour(device.mark.number))
    return notes


def _style(paint: Colour) -> dict[str, str]:
    return {"lstopoStyle": f"Background={paint.red_green_blue};Text={paint.text}"}


def _legend(picture: Picture, command: str) -> tuple[str, ...]:
    rows = (text if mark is None else f"{mark.text}: {text}" for mark, _, text in legend_rows(picture))
    return (picture.title, *rows, *picture.notes, *([f"made by: {command}"] if command else []))
