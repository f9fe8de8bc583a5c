"""NCCL topology files: where each PCI device is, for clouds whose virtual machines hide it."""

from __future__ import annotations

import os

from hwnuma.errors import OptionError, TopologyFileError
from hwnuma.hwloc.files import read_regular_file
from hwnuma.model.characters import shown
from hwnuma.model.gpu import normalize_pci_address
from hwnuma.model.numbers import whole_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# The largest of those that clouds and RCCL publish has 13 KB.
_MOST_BYTES = 4 << 20

# Published ones are at most eight deep: system, cpu, PCI switches, a device and what it carries.
_MOST_NESTED = 100

# Far above any kernel's number of nodes (MAX_NUMNODES is 1,024).
_LARGEST_NODE = 1 << 20


def read_nccl_topology(path: str | os.PathLike[str]) -> dict[str, int]:
    """Read the NUMA node of every PCI device that an NCCL topology file names.

    The file's form is NCCL's (``NCCL_TOPO_FILE``, ``NCCL_TOPO_DUMP_FILE``): ``<cpu numaid=…>`` elements with nested
    ``<pci busid=…>``. Bus ids are compared in normalised form.

    Args:
        path: the file, a regular one.

    Returns:
        NUMA node by PCI address.

    Raises:
        TopologyFileError: the file cannot be read or is no NCCL topology.
    """
    from xml.parsers import expat  # here, since a process that binds itself seldom reads a file

    name = os.fspath(path)
    document = read_regular_file(path, what="the NCCL topology file", most_bytes=_MOST_BYTES)
    reading = _Reading(name)
    parser = expat.ParserCreate()
    parser.StartElementHandler = reading.start
    parser.EndElementHandler = reading.end
    parser.StartDoctypeDeclHandler = reading.refuse_doctype
    try:
        parser.Parse(document, True)
    except TopologyFileError:
        raise
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise TopologyFileError(f"the NCCL topology file {name} is not well-formed XML ({error})") from None
    return reading.nodes


class _Reading:
    """What is known while a file is read, element by element: no tree is built of it."""

    def __init__(self, name: str) -> None:
        self.nodes: dict[str, int] = {}
        self._name = name
        self._around: list[int] = []  # of each element that is open: the node of the nearest <cpu>, or -1

    def refuse_doctype(self, *_: object) -> None:
        raise TopologyFileError(
            f"the NCCL topology file {self._name} has a DOCTYPE, which NCCL's have not: entities are not expanded"
        )

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if not self._around and tag != "system":
            raise TopologyFileError(
                f"{self._name} is no NCCL topology: its root element is <{shown(tag)[1:-1]}>, not <system>"
            )
        if len(self._around) >= _MOST_NESTED:
            raise TopologyFileError(f"the NCCL topology file {self._name} nests more than {_MOST_NESTED} elements")
        node = self._around[-1] if self._around else -1
        if tag == "cpu":
            node = self._node(attributes.get("numaid", ""))
        elif tag == "pci" and node >= 0:  # -1: not known to NCCL either
            self.nodes[self._address(attributes.get("busid", ""))] = node
        self._around.append(node)

    def end(self, _: str) -> None:
        self._around.pop()

    def _node(self, text: str) -> int:
        try:
            return whole_number(text, "numaid", -1, _LARGEST_NODE)
        except OptionError:
            raise TopologyFileError(
                f"the NCCL topology file {self._name} has a <cpu> whose numaid is {shown(text)}"
            ) from None

    def _address(self, text: str) -> str:
        try:
            return normalize_pci_address(text if "." in text else f"{text}.0")
        except OptionError:
            raise TopologyFileError(
                f"the NCCL topology file {self._name} has a <pci> whose busid is {shown(text)}"
            ) from None
