"""A capture as one document that plain hwloc reads: the topology, with the facts as info attributes of its root.

The GPUs stand in it for people too, as Misc objects of their PCI devices, which lstopo draws; nothing reads those.
"""

from __future__ import annotations

from xml.etree import ElementTree

from hwnuma.captures.anonymous import LeftOut, anonymous_facts, make_anonymous
from hwnuma.hwloc.annotate import add_infos, add_misc, last_number, written
from hwnuma.model.characters import printable
from hwnuma.model.facts import PREFIX, Facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def document_of(exported: str, facts: Facts | None, *, anonymous: bool) -> tuple[str, tuple[LeftOut, ...]]:
    """Put the facts into a topology.

    Args:
        exported: what `Topology.export_xml` gave.
        facts: the machine's, or None.
        anonymous: leave out what says whose machine it is, or which of several.

    Returns:
        The document, and what was left out of it.
    """
    tree = ElementTree.fromstring(exported)
    machine = next(tree.iter("object"))
    for info in machine.findall("info"):
        if info.get("name", "").startswith(PREFIX):  # of an earlier capture that this topology was loaded from
            machine.remove(info)
    left_out: tuple[LeftOut, ...] = ()
    if anonymous:
        known = facts or Facts()
        left_out = make_anonymous(tree, known)
        facts = None if facts is None else anonymous_facts(known)
    if facts is not None:
        add_infos(machine, facts.infos())
        _name_gpus(tree, facts)
    return written(tree), left_out


def _name_gpus(tree: ElementTree.Element, facts: Facts) -> None:
    """Label each GPU's PCI device with its number and model."""
    number = last_number(tree)
    devices = {element.get("pci_busid"): element for element in tree.iter("object") if element.get("type") == "PCIDev"}
    for gpu in facts.gpus:
        if gpu.pci_address in devices:
            number += 1
            add_misc(devices[gpu.pci_address], number, _label(gpu.index, gpu.name))


def _label(index: int, name: str | None) -> str:
    return printable(f"GPU {index}{f': {name}' if name else ''}").encode("ascii", "backslashreplace").decode()


def summary(left_out: Sequence[LeftOut]) -> list[str]:
    """Say what was left out, a line for each kind."""
    return [str(each) for each in left_out] or ["nothing"]
