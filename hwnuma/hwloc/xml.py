"""Check a saved topology before libhwloc sees it, and write it as every build of libhwloc can read it.

libhwloc answers any bad file with EINVAL and no reason. And builds without libxml2 have a minimal parser that refuses
what other programs write: a comment ahead of the root element, single quotes, text between elements.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from hwnuma.errors import TopologyFileError

# libhwloc 2.10 was the first of the 2.x to read the format of hwloc 3.
_FIRST_TO_READ_3 = 0x00020A00

_HEADER = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE topology SYSTEM "{dtd}">\n'


def normalized_xml(document: bytes, name: str, hwloc_version: int) -> bytes:
    """Check that a document is a hwloc topology that this libhwloc reads, and write it in libhwloc's own form.

    Args:
        document: the file's content.
        name: what to call it in messages.
        hwloc_version: the running libhwloc's API version, such as 0x20b00.

    Raises:
        TopologyFileError: the reason, in a sentence.
    """
    if not document.strip():
        raise TopologyFileError(f"{name} is empty: save a topology with `hwnuma capture FILE.xml` or `lstopo FILE.xml`")
    try:
        root = ElementTree.fromstring(document)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise TopologyFileError(f"{name} is not well-formed XML, or is cut short ({error})") from None
    if root.tag != "topology":
        raise TopologyFileError(
            f"{name} is XML, but no hwloc topology: its root element is <{root.tag}>, not <topology>"
            + ("; a NCCL topology file goes with --nccl-topo" if root.tag == "system" else "")
        )
    _check_version(root.get("version", "1.0"), name, hwloc_version)
    if not any(element.get("type") == "PU" for element in root.iter("object")):
        raise TopologyFileError(f"{name} has no PU, so there is no CPU to plan on: save the topology with its CPUs")
    return _in_libhwlocs_form(root)


def _check_version(version: str, name: str, hwloc_version: int) -> None:
    match = re.fullmatch(r"(\d{1,4})(?:\.\d{1,4})*", version)
    if match is None:
        raise TopologyFileError(f"{name} has the version {version!r}, which is none of hwloc's")
    major = int(match[1])
    readable = 3 if hwloc_version >= _FIRST_TO_READ_3 else 2
    if major > readable:
        needed = "2.10 or later" if major == 3 else f"{major}.0 or later"  # noqa: PLR2004 -- hwloc 3's format
        raise TopologyFileError(
            f"{name} is in the format of hwloc {version}, and this libhwloc "
            f"({hwloc_version >> 16}.{hwloc_version >> 8 & 0xFF}) reads up to {readable}.x: it needs libhwloc {needed}"
        )


def _in_libhwlocs_form(root: ElementTree.Element) -> bytes:
    for element in root.iter():
        element.tail = "\n"
        # Text matters in <indexes>, <u64values> and <userdata> only; elsewhere it is indentation.
        if len(element) or not (element.text or "").strip():
            element.text = "\n" if len(element) else None
    dtd = "hwloc2.dtd" if root.get("version") else "hwloc.dtd"
    body = ElementTree.tostring(root, encoding="unicode", short_empty_elements=True).replace(" />", "/>")
    return (_HEADER.format(dtd=dtd) + body).encode()
