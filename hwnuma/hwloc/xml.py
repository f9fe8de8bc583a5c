"""Check a saved topology before libhwloc sees it, and write it as every build of libhwloc can read it.

libhwloc answers any bad file with EINVAL and no reason. And builds without libxml2 have a minimal parser that refuses
what other programs write: a comment ahead of the root element, single quotes, text between elements. What libhwloc
wrote itself is only looked at, in one pass (look_at_xml.c), and handed on as it is.
"""

from __future__ import annotations

from hwnuma.errors import TopologyFileError
from hwnuma.hwloc.library import ffi, lib, version_text
from hwnuma.model.characters import shown
from hwnuma.model.numbers import is_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# How large a saved topology may be.
MOST_BYTES = int(lib.XML_MOST_BYTES)

# libhwloc 2.10 was the first of the 2.x to read the format of hwloc 3.
_FIRST_TO_READ_3 = 0x00020A00

_HEADER = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE topology SYSTEM "{dtd}">\n'

# The references that libhwloc's minimal parser knows.
_REFERENCES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\n": "&#10;", "\r": "&#13;", "\t": "&#9;"}
)


def checked_xml(document: bytes, name: str, hwloc_version: int, *, needs_cpus: bool = True) -> bytes:
    """Give a document as `normalized_xml` does, if no number in it is beyond what a machine can have.

    A PU's or NUMA node's number is a place in libhwloc's bitmaps, so a wrong one costs up to gigabytes.

    Args:
        document: the file's content.
        name: what to call it in messages.
        hwloc_version: the running libhwloc's API version.
        needs_cpus: refuse a document that has no PU.

    Raises:
        TopologyFileError: as there, or such a number is missing or too large, or a bitmap is too long.
    """
    content, look = _normalized(document, name, hwloc_version)
    if needs_cpus and not look.pus:
        raise _no_cpus(name)
    largest = int(lib.XML_LARGEST_INDEX)
    if look.bad_index:
        raise TopologyFileError(
            f"cannot import {name}: a PU or NUMA node has no os_index, or one above {largest} (line {look.bad_index}), "
            "which no machine has: save the topology anew"
        )
    if look.bad_set:
        raise TopologyFileError(
            f"cannot import {name}: a cpuset or nodeset reaches beyond number {largest} (line {look.bad_set}), which "
            "no machine has: save the topology anew"
        )
    return content


def normalized_xml(document: bytes, name: str, hwloc_version: int) -> bytes:
    """Check that a document is a hwloc topology that this libhwloc reads, and give it in libhwloc's own form.

    Args:
        document: the file's content.
        name: what to call it in messages.
        hwloc_version: the running libhwloc's API version, such as 0x20b00.

    Raises:
        TopologyFileError: the reason, in a sentence.
    """
    content, look = _normalized(document, name, hwloc_version)
    if not look.pus:
        raise _no_cpus(name)
    return content


def _no_cpus(name: str) -> TopologyFileError:
    return TopologyFileError(f"{name} has no PU, so there is no CPU to plan on: save the topology with its CPUs")


def _normalized(document: bytes, name: str, hwloc_version: int) -> tuple[bytes, Any]:
    if not document or document.isspace():
        raise TopologyFileError(f"{name} is empty: save a topology with `hwnuma capture FILE.xml` or `lstopo FILE.xml`")
    if len(document) > lib.XML_MOST_BYTES:
        raise TopologyFileError(f"{name} is larger than {lib.XML_MOST_BYTES} bytes, which no topology is")
    form, look = _look_at(document)
    if form == lib.XML_OTHER:
        document = _rewritten(document, name)
        form, look = _look_at(document)
    if form == lib.XML_TOO_DEEP:
        raise _too_deep(name)
    if form == lib.XML_OTHER:
        raise TopologyFileError(f"cannot import {name}: it has elements or attributes that no hwloc topology has")
    _check_version(look.major, look.minor, name, hwloc_version)
    return document, look


def _look_at(document: bytes) -> tuple[int, Any]:
    """The form of a document, and what the look found; bytes that are no text are left to a whole parser."""
    look = ffi.new("struct hwnuma_xml *")
    try:
        document.isascii() or document.decode()
    except UnicodeDecodeError:
        return lib.XML_OTHER, look
    return (lib.XML_OTHER if b"\0" in document else lib.hwnuma_look_at_xml(document, look)), look


def _too_deep(name: str) -> TopologyFileError:
    deepest = int(lib.XML_MOST_DEPTH)
    return TopologyFileError(
        f"cannot import {name}: it has over {deepest} elements within each other, which no topology has"
    )


def _check_version(major: int, minor: int, name: str, hwloc_version: int) -> None:
    readable = 3 if hwloc_version >= _FIRST_TO_READ_3 else 2
    if major > readable:
        needed = "2.10 or later" if major == 3 else f"{major}.0 or later"  # noqa: PLR2004 -- hwloc 3's format
        raise TopologyFileError(
            f"{name} is in the format of hwloc {major}.{minor}, and this libhwloc ({version_text(hwloc_version)}) "
            f"reads up to {readable}.x: it needs libhwloc {needed}"
        )


def _rewritten(document: bytes, name: str) -> bytes:
    """Write a document in libhwloc's own form."""
    from xml.parsers import expat  # only here: hardly any file needs it

    parser = expat.ParserCreate()
    rewriter = _Rewriter(name)
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = rewriter.document_type
    parser.StartElementHandler = rewriter.start
    parser.EndElementHandler = rewriter.end
    parser.CharacterDataHandler = rewriter.text
    try:
        parser.Parse(document, True)
    except TopologyFileError:
        raise
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise TopologyFileError(f"{name} is not well-formed XML, or is cut short ({error})") from None
    return "".join(rewriter.written).encode()


class _Rewriter:
    """What writes a document in libhwloc's own form, as expat reads it."""

    def __init__(self, name: str) -> None:
        self.written: list[str] = []
        self._name = name
        self._depth = 0
        self._leaf: list[str] | None = None  # the text of the element that was opened last, until anything else comes

    def document_type(self, _name: str, _system: str | None, _public: str | None, has_declarations: int) -> None:
        """Refuse declarations before any of them is expanded; a mere name is well."""
        if has_declarations:
            raise TopologyFileError(
                f"cannot import {self._name}: its DOCTYPE has declarations in it, and no hwloc topology has: they can "
                "make a small file a huge one"
            )

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Write an element's first tag; of the root element, the version alone."""
        self._depth += 1
        if self._depth == 1:
            self._start_root(tag, attributes)
            return
        if self._depth > lib.XML_MOST_DEPTH:
            raise _too_deep(self._name)
        self._leaf = []
        shown = "".join(f' {key}="{value.translate(_REFERENCES)}"' for key, value in attributes.items())
        self.written.append(f"\n<{tag}{shown}>")

    def _start_root(self, tag: str, attributes: dict[str, str]) -> None:
        if tag != "topology":
            raise TopologyFileError(
                f"{self._name} is XML, but no hwloc topology: its root element is <{shown(tag)[1:-1]}>, not <topology>"
                + ("; a NCCL topology file goes with --nccl-topo" if tag == "system" else "")
            )
        version = attributes.get("version")
        if version is None:
            self.written += (_HEADER.format(dtd="hwloc.dtd"), "<topology>")
            return
        numbers = version.split(".")
        if not all(is_number(number, 4) for number in numbers):
            raise TopologyFileError(f"{self._name} has the version {shown(version)}, which is none of hwloc's")
        major, minor = [*numbers, "0"][:2]
        self.written += (_HEADER.format(dtd="hwloc2.dtd"), f'<topology version="{major}.{minor}">')

    def text(self, text: str) -> None:
        """Keep text that is a leaf's whole content: it matters in <indexes>, <u64values> and <userdata> only."""
        if self._leaf is not None:
            self._leaf.append(text)

    def end(self, tag: str) -> None:
        """Write an element's last tag, after a leaf's text."""
        self._depth -= 1
        text = "".join(self._leaf or ())
        if text and not text.isspace():
            self.written.append(text.translate(_REFERENCES))
        self.written.append(f"</{tag}>")
        self._leaf = None
