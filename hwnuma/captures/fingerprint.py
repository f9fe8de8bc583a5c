"""What makes two captures alike, off their XML in one pass: libhwloc, which takes ten times as long, is not asked.

Two captures with one fingerprint are told apart by nothing that `hwnuma.captures.compared` has words for, but for
memory, which has a tolerance and so stands beside it. The converse need not hold, since a file may be written by
another hwloc: whoever finds no words for two fingerprints takes the machines for alike.

No differences are names, serial numbers, UUIDs and network addresses; nor PCI addresses, of which the order alone
counts (a card more or less in front of a bus shifts the numbers of those behind, and names of interfaces with them);
nor the speed of PCI links, which idle devices lower.
"""

from __future__ import annotations

from hashlib import blake2b
from xml.parsers import expat

from hwnuma.captures.anonymous import anonymous_facts
from hwnuma.environment.local_rank import NODE_VARIABLES
from hwnuma.errors import OptionError, TopologyFileError
from hwnuma.hwloc.files import decompressed, read_regular_file
from hwnuma.hwloc.library import RUNNING_VERSION
from hwnuma.hwloc.xml import MOST_BYTES, checked_xml
from hwnuma.model.facts import PREFIX, Facts, Versions, facts_of_infos
from hwnuma.model.gpu import pci_address_key
from hwnuma.model.nic import ACCESS, BOND, PHYSICAL_FUNCTION, natural_key
from hwnuma.model.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping

# Facts that are one machine's alone, or of who looked at it, with what stands in their place in a fingerprint.
# What else names one machine (UUIDs, wherever they stand) `anonymous_facts` replaces.
_OF_ONE_MACHINE: dict[str, object] = {"host": "", "serials": (), "anonymous": False}
_OF_THE_LOOK = {"hwnuma": None, "hwloc": None}

# Info attributes of the root and of packages that tell how a machine is made and set up.
ABOUT = ("DMIProductName", "DMIBIOSVersion", "CPUModel", "OSRelease")

# First-level caches, threads and groups say nothing that cores, higher caches and devices do not.
_PASSED_OVER = frozenset(("PU", "L1Cache", "L1iCache", "L2iCache", "Group", "Misc", "System"))

_NETWORK, _OPENFABRICS = "2", "3"
_BYTES = 16


class Fingerprint(Value):
    """What two captures have in common that are alike.

    Attributes:
        digest: of all but memory.
        memory: of each NUMA node, in bytes, in the order of the file.
        about: the info attributes of `ABOUT` that there are.
    """

    digest: bytes
    memory: tuple[int, ...]
    about: tuple[tuple[str, str], ...] = ()


def fingerprint_of_file(path: str | os.PathLike[str]) -> Fingerprint:
    """Read a capture's fingerprint off its file, whether gzip or xz compressed it or none.

    Raises:
        TopologyFileError: it cannot be read, or is no capture; what libhwloc alone would refuse is not seen.
    """
    return fingerprint_of(document_of_file(path), str(path))


def document_of_file(path: str | os.PathLike[str]) -> bytes:
    """The XML of a file.

    Raises:
        TopologyFileError: it cannot be read, or is larger than any topology.
    """
    content = read_regular_file(path, what="the topology file", most_bytes=MOST_BYTES)
    return decompressed(content, str(path), most_bytes=MOST_BYTES)


def fingerprint_of(document: bytes, name: str) -> Fingerprint:
    """Read the fingerprint off a document.

    Args:
        document: as it is in the file.
        name: what to call it in messages.

    Raises:
        TopologyFileError: it is no capture, nor a topology.
    """
    reader = _Reader()
    try:
        # It is looked at first, so that it has no declarations, is not too deep, and has a CPU.
        reader.read(checked_xml(document, name, RUNNING_VERSION))
        facts = facts_of_infos(reader.facts)
        digest = blake2b("\n".join(reader.lines(facts)).encode(errors="surrogatepass"), digest_size=_BYTES)
        return Fingerprint(digest.digest(), tuple(reader.memory), tuple(reader.about.items()))
    except (expat.ExpatError, ValueError) as error:
        if isinstance(error, TopologyFileError):
            raise
        if isinstance(error, OptionError):
            raise TopologyFileError(
                f"the facts that hwnuma saved in {name} make no sense: {error}; capture the machine anew"
            ) from None
        raise TopologyFileError(f"{name} is no topology that can be read ({error}): save it anew") from None


class _Device:
    """A PCI device as the document has it."""

    def __init__(self, address: str, kind: str, near: str, bridges: tuple[int, ...]) -> None:
        self.address, self.kind, self.near, self.bridges = address, kind, near, bridges
        self.parts: list[tuple[str, str, dict[str, str]]] = []  # OS devices: kind, name and info attributes


class _Reader:
    """What expat calls."""

    def __init__(self) -> None:
        self.facts: list[tuple[str, str]] = []
        self.about: dict[str, str] = {}
        self.memory: list[int] = []
        self._lines: list[str] = []
        self._devices: list[_Device] = []
        self._bridges = 0
        # Of each open object: its type, the place that devices below it are near, and the bridges above them.
        self._open: list[tuple[str, str, tuple[int, ...]]] = [("", "", ())]
        self._infos: dict[str, str] = {}
        self._depth = 0

    def read(self, document: bytes) -> None:
        """Read a document."""
        self._parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        try:
            parser.Parse(document, True)
        finally:
            parser.StartElementHandler = parser.EndElementHandler = parser.CharacterDataHandler = None
            del self._parser  # it and its handlers hold each other

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "object":
            self._object(attributes)
        elif tag == "info":
            self._info(attributes.get("name", ""), attributes.get("value", ""))
        elif tag == "distances2":
            if attributes.get("name", "NUMALatency") == "NUMALatency":
                self._lines.append("distances")
                self._parser.CharacterDataHandler = self._text
        elif tag == "cpukind":
            self._lines.append(f"kind {attributes.get('cpuset')}")

    def _end(self, tag: str) -> None:
        if tag == "object":
            self._open.pop()
        elif tag == "distances2":
            self._parser.CharacterDataHandler = None

    def _text(self, text: str) -> None:
        if not text.isspace():
            self._lines.append(" ".join(text.split()))

    def _object(self, attributes: dict[str, str]) -> None:
        kind = attributes.get("type", "")
        _, near, bridges = self._open[-1]
        if kind == "PCIDev":
            device = _Device(attributes.get("pci_busid", ""), _identity(attributes), near, bridges)
            self._devices.append(device)
        elif kind == "Bridge":
            self._bridges += 1
            bridges = (*bridges, self._bridges)
        elif kind == "OSDev":
            self._infos = {}
            if self._devices and self._open[-1][0] == "PCIDev":
                self._devices[-1].parts.append(
                    (attributes.get("osdev_type", ""), attributes.get("name", ""), self._infos)
                )
        elif kind != "Misc":
            near = attributes.get("cpuset", "")
            if kind not in _PASSED_OVER:
                self._place(kind, attributes)
        self._open.append((kind, near, bridges))

    def _place(self, kind: str, attributes: Mapping[str, str]) -> None:
        number, cpuset = attributes.get("os_index"), attributes.get("cpuset")
        self._lines.append(f"{kind} {number} {cpuset}")
        if kind == "NUMANode":
            self._lines.append(attributes.get("subtype", ""))
            self.memory.append(int(attributes.get("local_memory", "0")))
        elif kind == "Machine":
            self._lines.append(f"{attributes.get('allowed_cpuset')} {attributes.get('allowed_nodeset')}")

    def _info(self, name: str, value: str) -> None:
        kind = self._open[-1][0]
        if kind == "OSDev":
            self._infos.setdefault(name, value)
        elif kind in ("Machine", "Package"):
            if name.startswith(PREFIX) and kind == "Machine":
                self.facts.append((name, value))
            elif name in ABOUT:
                self.about.setdefault(name, value)

    def lines(self, facts: Facts | None) -> Iterator[str]:
        """All that counts, a line each."""
        yield from self._lines
        yield from (f"{name} {value}" for name, value in self.about.items())
        addresses = [device.address for device in self._devices]
        numbers = _numbered([*addresses, *(_addresses(facts) if facts is not None else ())])
        for device in sorted(self._devices, key=lambda device: pci_address_key(device.address)):
            yield f"pci {numbers[device.address]} {device.kind} {device.near} {device.bridges}"
            yield from _parts(device)
        if facts is not None:
            yield from _facts_lines(facts, numbers)


def _identity(attributes: Mapping[str, str]) -> str:
    """Class, vendor and device: ``0302 [10de:20b0]``, without whose board it is."""
    return " ".join(attributes.get("pci_type", "").split()[:2])


def _parts(device: _Device) -> Iterator[str]:
    for kind, name, infos in sorted(device.parts, key=lambda part: (part[0], natural_key(part[1]))):
        if kind in (_NETWORK, _OPENFABRICS):
            told = sorted((key, value) for key, value in infos.items() if _counts(key))
            # An interface is named by its bus, or its MAC.
            yield f"{kind} {name if kind == _OPENFABRICS else ''} {told} {PHYSICAL_FUNCTION in infos}"


def _counts(info: str) -> bool:
    return (
        info in (ACCESS, BOND)
        or (info.startswith("Port") and info.endswith("State"))
        or (info.startswith(PREFIX) and info != PHYSICAL_FUNCTION)
    )


def _numbered(addresses: Iterable[str]) -> dict[str, int]:
    """The place of each PCI address in their order."""
    return {address: place for place, address in enumerate(sorted(set(addresses), key=pci_address_key))}


def _addresses(facts: Facts) -> Iterator[str]:
    yield from (gpu.pci_address for gpu in (*facts.gpus, *facts.amd_gpus) if gpu.pci_address is not None)
    for link in facts.nvlinks:
        yield from (link.source, link.target)
    yield from (address for address, _ in (*facts.nccl_nodes, *facts.device_nodes))


def without_what_is_one_machines(facts: Facts) -> Facts:
    """The facts of every machine that is like this one."""
    facts = replace(anonymous_facts(facts), **_OF_ONE_MACHINE)
    variables = tuple((name, value) for name, value in facts.variables if name not in NODE_VARIABLES)
    versions: Versions = replace(facts.versions, **_OF_THE_LOOK)
    return replace(facts, variables=variables, versions=versions)


def _facts_lines(facts: Facts, numbers: Mapping[str, int]) -> Iterator[str]:
    values = without_what_is_one_machines(facts).as_dict()
    for source in ("gpus", "amd_gpus"):
        for gpu in values.pop(source):
            yield f"{source} " + str({**gpu, "pci_address": numbers.get(gpu["pci_address"])})
    values["amd_doubt"] = bool(values["amd_doubt"])  # its words have addresses in them
    for source, target, links in sorted(values.pop("nvlinks")):
        yield f"{numbers[source]} {numbers[target]} {links}"
    for nodes in ("nccl_nodes", "device_nodes"):
        yield from (f"{nodes} {numbers[address]} {node}" for address, node in sorted(values.pop(nodes).items()))
    yield str(values)
