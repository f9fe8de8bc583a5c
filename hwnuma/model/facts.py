"""Facts: what a capture keeps of a machine beside its topology, as a value, as JSON, and as info attributes of hwloc's.

Pure. A file of facts may be anybody's, so all of it is checked as it is read, and what it can cost is bounded. Keys may
be added to schema 1: those that are not known are passed over.
"""

from __future__ import annotations

from hwnuma.errors import OptionError
from hwnuma.model.bitmap import CpuSet, NodeSet
from hwnuma.model.characters import excerpt, shown
from hwnuma.model.gpu import Gpu, MigInstance, normalize_pci_address
from hwnuma.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, TypeVar

    _ItemT = TypeVar("_ItemT")
    Readers = dict[str, Callable[[object, str], Any]]

SCHEMA = 1

# Names of info attributes: this and a key of the JSON (HwnumaKernelSettings); each holds that key's JSON. Of GPUs there
# is one info attribute each, in index order.
PREFIX = "Hwnuma"
_SCHEMA_INFO, _GPU_INFO = f"{PREFIX}Schema", f"{PREFIX}Gpu"

# More than any machine has GPUs and MIG instances, as in `hwnuma.devices.visible`; and links of each with each of 64.
_MOST_GPUS, _MOST_LINKS, _MOST_VARIABLES = 1024, 64 * 64, 256
# Of a name or a UUID; of an error's sentence or a variable: 1,024 MIG UUIDs with commas take 42 KB.
_MOST_NAME, _MOST_TEXT = 256, 1 << 16
_MOST_NUMBER = 1 << 32
# The performances that CPPC's registers can tell apart where each has a byte, as Intel's have.
_MOST_SPEEDS = 256
_LARGEST_NODE = 1 << 20

_VARIABLE_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


class KernelSettings(Value):
    """What the kernel is set to that changes how fast placed memory and threads are; None for what it does not tell.

    Attributes:
        numa_balancing: ``kernel.numa_balancing``: 0 off; 1 pages follow the CPUs that use them; 2 tiers of memory.
        zone_reclaim_mode: ``vm.zone_reclaim_mode``: not 0: a node's caches are dropped before another node is used.
        huge_pages: transparent huge pages: "always", "madvise" or "never".
        huge_pages_defrag: their defragmentation: "always", "defer", "defer+madvise", "madvise" or "never".
        isolcpus: ``isolcpus=`` of the kernel's command line, as it stands there; "" if it does not.
        nohz_full: ``nohz_full=``, likewise.
        isolated_cpuset: the CPUs that the scheduler is kept off, as sysfs tells them.
    """

    numa_balancing: int | None = None
    zone_reclaim_mode: int | None = None
    huge_pages: str | None = None
    huge_pages_defrag: str | None = None
    isolcpus: str | None = None
    nohz_full: str | None = None
    isolated_cpuset: CpuSet | None = None

    def as_dict(self) -> dict[str, Any]:
        """Give them as plain values, sets in list form."""
        values = {name: getattr(self, name) for name in self._fields}
        return {**values, "isolated_cpuset": _set_text(self.isolated_cpuset)}


class Versions(Value):
    """Of which versions a capture is; None for what is not known."""

    hwnuma: str | None = None
    hwloc: str | None = None
    kernel: str | None = None
    driver: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        """Give them as plain values."""
        return {name: getattr(self, name) for name in self._fields}


class NvLink(Value):
    """How many NVLinks lead from a GPU to another, by PCI address."""

    source: str
    target: str
    links: int


class Facts(Value):
    """What a plan depends on beside the topology, and what else is worth keeping, as it was where it was captured.

    Attributes:
        gpus: all GPUs that NVML told, in its order; empty if it did not work, and the topology's are meant.
        nvml_error: why NVML did not work, a sentence; "" if it did.
        amd_gpus: the AMD GPUs and partitions that ROCm had, in its order, off the kernel's KFD; empty if it told none,
            and the topology's are meant.
        amd_doubt: why they are not known though KFD told of some, a sentence; "" if they are.
        nvlinks: between GPUs, both ways.
        serials: the GPUs' serial numbers by PCI address, where they were asked for.
        variables: the environment variables that a plan depends on (visible devices, their order, numbers of ranks).
        nccl_nodes: NUMA nodes by PCI address, of the file that ``NCCL_TOPO_FILE`` named.
        affinity: the CPUs that the capturing process could run on; None if that was not known.
        memory_nodes: the NUMA nodes that it could have memory of.
        core_speeds: sets of CPUs from the slowest to the fastest, where the firmware tells and libhwloc does not.
        device_nodes: NUMA nodes by PCI address, as the kernel has them of devices that libhwloc finds no place for.
        kernel_settings: the kernel's.
        versions: of programs.
        host: the machine's name; "" if it is not to be known.
        anonymous: whether names, UUIDs and the like were left out or replaced by stand-ins.
    """

    gpus: tuple[Gpu, ...] = ()
    nvml_error: str = ""
    amd_gpus: tuple[Gpu, ...] = ()
    amd_doubt: str = ""
    nvlinks: tuple[NvLink, ...] = ()
    serials: tuple[tuple[str, str], ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    nccl_nodes: tuple[tuple[str, int], ...] = ()
    affinity: CpuSet | None = None
    memory_nodes: NodeSet | None = None
    core_speeds: tuple[CpuSet, ...] = ()
    device_nodes: tuple[tuple[str, int], ...] = ()
    kernel_settings: KernelSettings = KernelSettings()
    versions: Versions = Versions()
    host: str = ""
    anonymous: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Give the facts as plain values: what ``hwnuma capture --facts`` prints, and `facts_of_dict` reads."""
        return {
            "schema": SCHEMA,
            "host": self.host,
            "anonymous": self.anonymous,
            "versions": self.versions.as_dict(),
            "affinity": _set_text(self.affinity),
            "memory_nodes": _set_text(self.memory_nodes),
            "core_speeds": [str(cpus) for cpus in self.core_speeds],
            "device_nodes": dict(self.device_nodes),
            "kernel_settings": self.kernel_settings.as_dict(),
            "variables": dict(self.variables),
            "nccl_nodes": dict(self.nccl_nodes),
            "nvml_error": self.nvml_error,
            "nvlinks": [[link.source, link.target, link.links] for link in self.nvlinks],
            "serials": dict(self.serials),
            "amd_doubt": self.amd_doubt,
            "amd_gpus": [_gpu_as_dict(gpu) for gpu in self.amd_gpus],
            "gpus": [_gpu_as_dict(gpu) for gpu in self.gpus],
        }

    def infos(self) -> list[tuple[str, str]]:
        """Give the facts as info attributes of a topology's root, which `facts_of_infos` reads."""
        import json  # only now: who binds keeps nothing

        values = self.as_dict()
        rows = [(_GPU_INFO, gpu) for gpu in values.pop("gpus")]
        rows = [*((_info_name(key), value) for key, value in values.items()), *rows]
        return [(name, json.dumps(value, separators=(",", ":"))) for name, value in rows]


def facts_of_infos(infos: Iterable[tuple[str, str]]) -> Facts | None:
    """Read the facts off the info attributes of a topology's root, in their order; None if there are none.

    Raises:
        OptionError: they make no sense, a clause that says which and why.
    """
    own = [(name, value) for name, value in infos if name.startswith(PREFIX)]
    if all(name != _SCHEMA_INFO for name, _ in own):
        return None
    names = {_info_name(key): key for key in _READERS}
    data: dict[str, Any] = {"schema": None, "gpus": [_json(value, name) for name, value in own if name == _GPU_INFO]}
    for name, value in own:
        if name in names and name != _info_name("gpus"):
            data[names[name]] = _json(value, name)
    return facts_of_dict(data)


def facts_of_dict(data: Mapping[str, Any]) -> Facts:
    """Read the facts off plain values, such as JSON has.

    Raises:
        OptionError: they make no sense, a clause that says which and why.
    """
    schema = data.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise OptionError(f"their schema is {_shown(schema)}, and not a number from 1")
    if schema > SCHEMA:
        raise OptionError(f"they are of schema {schema}, and this hwnuma knows up to {SCHEMA}: update it")
    return Facts(**{key: read(data[key], key) for key, read in _READERS.items() if key in data and key != "schema"})


# ---- writing -------------------------------------------------------------------------------------------------


def _info_name(key: str) -> str:
    return PREFIX + "".join(word.capitalize() for word in key.split("_"))


def _set_text(members: CpuSet | NodeSet | None) -> str | None:
    return None if members is None else str(members)


def _gpu_as_dict(gpu: Gpu) -> dict[str, Any]:
    return {
        **gpu.as_dict(),
        "device_index": gpu.device_index,
        "cpu_affinity": _set_text(gpu.cpu_affinity),
        "memory_affinity": _set_text(gpu.memory_affinity),
        "mig": None if gpu.mig is None else {name: getattr(gpu.mig, name) for name in gpu.mig._fields},
        "compute_partition": gpu.compute_partition,
    }


# ---- reading: each checks one kind of value, and names it by its key -------------------------------------------


def _shown(value: object) -> str:
    return shown(value) if isinstance(value, str) else excerpt(repr(value))


def _json(text: str, name: str) -> Any:
    import json  # only now: who binds reads no facts

    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OptionError(f"{name} is no JSON ({error})") from None


def _wrong(value: object, key: str, wanted: str) -> OptionError:
    return OptionError(f"{key} is {_shown(value)}, and not {wanted}")


def _text(value: object, key: str, most: int = _MOST_TEXT) -> str:
    if not isinstance(value, str) or len(value) > most or "\0" in value:
        raise _wrong(value, key, f"a text of at most {most} characters")
    return value


def _name(value: object, key: str) -> str:
    return _text(value, key, _MOST_NAME)


def _number(value: object, key: str, most: int = _MOST_NUMBER) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise _wrong(value, key, f"a whole number from 0 to {most}")
    return value


def _node(value: object, key: str) -> int:
    return _number(value, key, _LARGEST_NODE)


def _truth(value: object, key: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(value, key, "true or false")
    return value


def _address(value: object, key: str) -> str:
    text = _name(value, key)
    try:
        return normalize_pci_address(text)
    except OptionError as error:
        raise OptionError(f"{key}: {error}") from None


def _cpus(value: object, key: str) -> CpuSet:
    return _of_list(CpuSet, value, key)


def _nodes(value: object, key: str) -> NodeSet:
    return _of_list(NodeSet, value, key)


def _of_list(kind: Callable[[str], _ItemT], value: object, key: str) -> _ItemT:
    try:
        return kind(_text(value, key))
    except OptionError as error:
        raise OptionError(f"{key}: {error}") from None


def _maybe(read: Callable[[object, str], _ItemT]) -> Callable[[object, str], _ItemT | None]:
    """Take null too."""
    return lambda value, key: None if value is None else read(value, key)


def _mapping(value: object, key: str, most: int = _MOST_GPUS) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > most:
        raise _wrong(value, key, f"an object of at most {most} members")
    return value


def _list(value: object, key: str, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise _wrong(value, key, f"a list of at most {most}")
    return value


def _fields(kind: Callable[..., _ItemT], readers: Readers) -> Any:
    """Read a value's fields off an object, by their names; members that are not known are passed over."""

    def read(value: object, key: str) -> _ItemT:
        given = _mapping(value, key)
        return kind(**{name: of(given[name], f"{key}.{name}") for name, of in readers.items() if name in given})

    return read


def _variables(value: object, key: str) -> tuple[tuple[str, str], ...]:
    given = _mapping(value, key, _MOST_VARIABLES)
    for name in given:
        if not name or len(name) > _MOST_NAME or not _VARIABLE_LETTERS.issuperset(name):
            raise OptionError(f"{key} has {shown(name)}, which is no variable's name")
    return tuple((name, _text(text, f"{key}.{name}")) for name, text in given.items())


def _by_address(read: Callable[[object, str], _ItemT]) -> Callable[[object, str], tuple[tuple[str, _ItemT], ...]]:
    def pairs(value: object, key: str) -> tuple[tuple[str, _ItemT], ...]:
        given = _mapping(value, key, 1 << 16)
        return tuple((_address(address, key), read(each, f"{key}.{address}")) for address, each in given.items())

    return pairs


def _links(value: object, key: str) -> tuple[NvLink, ...]:
    rows = _list(value, key, _MOST_LINKS)
    if not all(isinstance(row, list) and len(row) == len(NvLink._fields) for row in rows):
        raise OptionError(f"{key} has a row that is not two PCI addresses and a number")
    return tuple(
        NvLink(_address(source, key), _address(target, key), _number(links, key)) for source, target, links in rows
    )


def _gpus(value: object, key: str) -> tuple[Gpu, ...]:
    found = tuple(_gpu(row, f"{key}[{place}]") for place, row in enumerate(_list(value, key, _MOST_GPUS)))
    for place, gpu in enumerate(found):
        if gpu.index != place:
            raise OptionError(f"{key}[{place}] has the index {gpu.index}: GPUs stand in the order of their indexes")
    return found


def _cpu_sets(value: object, key: str) -> tuple[CpuSet, ...]:
    return tuple(_cpus(each, key) for each in _list(value, key, _MOST_SPEEDS))


_MIG_READERS: Readers = {
    "parent_uuid": _maybe(_name),
    "gpu_instance": _maybe(_number),
    "compute_instance": _maybe(_number),
}
_GPU_READERS: Readers = {
    "index": _number,
    "pci_address": _maybe(_address),
    "uuid": _maybe(_name),
    "name": _maybe(_name),
    "device_index": _maybe(_number),
    "cpu_affinity": _maybe(_cpus),
    "memory_affinity": _maybe(_nodes),
    "mig": _maybe(_fields(MigInstance, _MIG_READERS)),
    "compute_partition": _maybe(_name),
}
_SETTINGS_READERS: Readers = {
    "numa_balancing": _maybe(_number),
    "zone_reclaim_mode": _maybe(_number),
    "huge_pages": _maybe(_name),
    "huge_pages_defrag": _maybe(_name),
    "isolcpus": _maybe(_text),
    "nohz_full": _maybe(_text),
    "isolated_cpuset": _maybe(_cpus),
}
_VERSION_READERS: Readers = {program: _maybe(_name) for program in Versions._fields}


def _gpu(value: object, key: str) -> Gpu:
    given = _mapping(value, key)
    if "index" not in given:
        raise OptionError(f"{key} has no index")
    read: Callable[[object, str], Gpu] = _fields(Gpu, _GPU_READERS)
    return read(value, key)


_READERS: Readers = {
    "schema": _number,
    "host": _name,
    "anonymous": _truth,
    "versions": _fields(Versions, _VERSION_READERS),
    "affinity": _maybe(_cpus),
    "memory_nodes": _maybe(_nodes),
    "core_speeds": _cpu_sets,
    "device_nodes": _by_address(_node),
    "kernel_settings": _fields(KernelSettings, _SETTINGS_READERS),
    "variables": _variables,
    "nccl_nodes": _by_address(_node),
    "nvml_error": _text,
    "nvlinks": _links,
    "serials": _by_address(_name),
    "amd_doubt": _text,
    "amd_gpus": _gpus,
    "gpus": _gpus,
}
