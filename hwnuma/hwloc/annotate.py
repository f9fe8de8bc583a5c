"""Write notes into a topology's XML file: info attributes and labels, which hwloc's own tools show."""

from __future__ import annotations

from xml.etree import ElementTree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


_HEADER = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE topology SYSTEM "hwloc2.dtd">\n'


def annotated_xml(
    document: str,
    *,
    cpus: Mapping[int, Mapping[str, str]],
    devices: Mapping[str, Mapping[str, str]],
    labels: Mapping[int, str],
    root: Iterable[tuple[str, str]],
) -> str:
    """Write info attributes and labels into a topology that libhwloc exported.

    Args:
        document: what `Topology.export_xml` gave.
        cpus: info attributes of PUs, by OS index. A core of which all PUs have the same gets them too.
        devices: info attributes of PCI devices, by address.
        labels: the name of a Misc object in the core that has a PU, by the PU's OS index.
        root: info attributes of the whole machine, in order; a name may come several times.
    """
    tree = ElementTree.fromstring(document)
    machine = next(tree.iter("object"))
    add_infos(machine, root)
    number = last_number(tree)
    for element in list(tree.iter("object")):
        kind = element.get("type")
        if kind == "PU":
            add_infos(element, cpus.get(int(element.get("os_index", "-1")), {}).items())
        elif kind == "PCIDev":
            add_infos(element, devices.get(element.get("pci_busid", ""), {}).items())
        elif kind == "Core":
            own = [int(unit.get("os_index", "-1")) for unit in element.iter("object") if unit.get("type") == "PU"]
            alike = {tuple(cpus.get(cpu, {}).items()) for cpu in own}
            add_infos(element, alike.pop() if len(alike) == 1 else ())
            for cpu in own:
                if cpu in labels:
                    number += 1
                    add_misc(element, number, labels[cpu])
    return written(tree)


def last_number(tree: ElementTree.Element) -> int:
    """The highest number that any object has (gp_index), which a new one has to be above."""
    return max(int(element.get("gp_index", "0")) for element in tree.iter("object"))


def add_misc(element: ElementTree.Element, number: int, name: str) -> None:
    """Add a Misc object, hwloc's own for what somebody adds to a topology, to an object."""
    ElementTree.SubElement(element, "object", {"type": "Misc", "gp_index": str(number), "name": name})


def written(tree: ElementTree.Element) -> str:
    """Write a topology's elements as libhwloc does."""
    text = ElementTree.tostring(tree, encoding="unicode", short_empty_elements=True)
    return f"{_HEADER}{text.replace(' />', '/>')}\n"


def add_infos(element: ElementTree.Element, infos: Iterable[tuple[str, str]]) -> None:
    """Put info attributes where libhwloc has them: after those that are there, ahead of the children."""
    place = sum(1 for child in element if child.tag == "info")
    for name, value in infos:
        info = ElementTree.Element("info", {"name": name, "value": value})
        info.tail = element.text  # a line of its own
        element.insert(place, info)
        place += 1
