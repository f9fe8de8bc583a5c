"""NCCL topology files: where each PCI device is, for clouds whose virtual machines hide it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hwnuma.errors import TopologyFileError
from hwnuma.model.gpu import normalize_pci_address

if TYPE_CHECKING:
    from xml.etree import ElementTree


def read_nccl_topology(path: str | os.PathLike[str]) -> dict[str, int]:
    """Read the NUMA node of every PCI device that an NCCL topology file names.

    The file's form is NCCL's (``NCCL_TOPO_FILE``, ``NCCL_TOPO_DUMP_FILE``): ``<cpu numaid=…>`` elements with nested
    ``<pci busid=…>``. Bus ids are compared in normalised form.

    Args:
        path: the file.

    Returns:
        NUMA node by PCI address.

    Raises:
        TopologyFileError: the file cannot be read or is no NCCL topology.
    """
    from xml.etree import ElementTree  # here, since a process that binds itself seldom reads a file

    name = os.fspath(path)
    try:
        root = ElementTree.fromstring(Path(path).read_bytes())
    except OSError as error:
        raise TopologyFileError(f"cannot read the NCCL topology file {name}: {error.strerror}") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise TopologyFileError(f"the NCCL topology file {name} is not well-formed XML ({error})") from None
    if root.tag != "system":
        raise TopologyFileError(f"{name} is no NCCL topology: its root element is <{root.tag}>, not <system>")
    nodes: dict[str, int] = {}
    for cpu in root.iter("cpu"):
        number = _node_number(cpu, name)
        for device in cpu.iter("pci") if number >= 0 else ():  # -1: not known to NCCL either
            nodes[_address(device, name)] = number
    return nodes


def _node_number(cpu: ElementTree.Element, name: str) -> int:
    text = cpu.get("numaid", "")
    try:
        return int(text)
    except ValueError:
        raise TopologyFileError(f"the NCCL topology file {name} has a <cpu> whose numaid is {text!r}") from None


def _address(device: ElementTree.Element, name: str) -> str:
    text = device.get("busid", "")
    try:
        return normalize_pci_address(text if "." in text else f"{text}.0")
    except ValueError:
        raise TopologyFileError(f"the NCCL topology file {name} has a <pci> whose busid is {text!r}") from None
