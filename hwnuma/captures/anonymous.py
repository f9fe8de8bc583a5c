"""Leave out of a capture what says whose machine it is, or which of several: names, serial numbers, addresses.

Of info attributes only those stay that are known to say nothing of that (hwloc manual, "Object attributes", "Custom
string infos"), so that one which a later libhwloc adds is left out until somebody has looked at it. UUIDs by which
variables name GPUs become stand-ins, the same in all places, so that plans stay what they are.
"""

from __future__ import annotations

import re

from hwnuma.model.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from xml.etree.ElementTree import Element

    from hwnuma.model.facts import Facts
    from hwnuma.model.gpu import Gpu

_KEPT = frozenset(
    (
        # the machine's
        "Architecture", "Backend", "ClusterMode", "DMIBIOSDate", "DMIBIOSVendor", "DMIBIOSVersion", "DMIBoardName",
        "DMIBoardVendor", "DMIBoardVersion", "DMIChassisType", "DMIChassisVendor", "DMIChassisVersion",
        "DMIProductName", "DMIProductVersion", "DMISysVendor", "MemoryMode", "OSName", "OSRelease", "OSVersion",
        "PlatformBoardID", "PlatformModel", "PlatformName", "PlatformRevision", "PlatformVendor",
        "SyntheticDescription", "hwlocVersion",
        # packages', caches', kinds of CPUs and memory's
        "CPUFamilyNumber", "CPUModel", "CPUModelNumber", "CPURevision", "CPUStepping", "CPUType", "CPUVendor",
        "CoreType", "DAXType", "FrequencyBaseMHz", "FrequencyMaxMHz", "Inclusive", "LinuxCPUType", "LinuxCapacity",
        "MemoryTier",
        # devices'
        "CUDACoresPerMP", "CUDAGlobalMemorySize", "CUDAL2CacheSize", "CUDAMultiProcessors",
        "CUDASharedMemorySizePerMP", "GPUModel", "GPUVendor", "LinuxDeviceID", "Model", "PCIDevice", "PCISlot",
        "PCIVendor", "Port", "Revision", "SectorSize", "Size", "Type", "Vendor",
        # hwnuma's own, of network devices and plans
        "HwnumaAccess", "HwnumaBond", "HwnumaPhysicalFunction", "HwnumaRanks", "HwnumaSlingshot", "HwnumaSpeed",
        "HwnumaState",
    )
)  # fmt: skip
_KEPT_OF_PORTS = r"Port[0-9]+State|HwnumaPort[0-9]+(Rate|LinkLayer)"

# By what stands in the name of an info attribute: what people call it.
_KINDS = (
    ("uuid", "UUIDs"),
    ("serial", "serial numbers"),
    ("asset", "asset tags"),
    ("guid", "GUIDs"),
    ("gid", "network addresses"),
    ("lid", "network addresses"),
    ("address", "network addresses"),
    ("host", "host names"),
    ("cgroup", "control groups"),
    ("process", "process names"),
)
_OTHERS = "other attributes"

# An interface that udev has named by its MAC (systemd.net-naming-scheme(7): "x" and twelve digits after two letters).
_NAMED_BY_MAC = r"([a-z]{2}x)[0-9a-f]{12}"

# A GPU's or MIG instance's UUID or the beginning of one, in a variable or a sentence.
_UUID = r"\b((?:MIG-)?GPU|MIG)-[0-9A-Za-z]+(?:-[0-9A-Za-z]+)*"
# The folders of a path, which may be somebody's home.
_FOLDERS = r"(?<![\w.])/(?:[^\s/:]+/)+"

_NOBODY = 0xFFFFFFFF
# Behind "GPU-" in an AMD GPU's UUID.
_AMD_DIGITS = 16


class LeftOut(Value):
    """What was left out or replaced: how many of a kind, and where they stood."""

    kind: str
    number: int
    places: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind}: {self.number} ({', '.join(self.places)})"


class _Count:
    """What has been left out so far."""

    def __init__(self) -> None:
        self._places: dict[str, dict[str, int]] = {}

    def add(self, kind: str, place: str, number: int = 1) -> None:
        if number:
            places = self._places.setdefault(kind, {})
            places[place] = places.get(place, 0) + number

    def all(self) -> tuple[LeftOut, ...]:
        return tuple(LeftOut(kind, sum(those.values()), tuple(those)) for kind, those in sorted(self._places.items()))


def make_anonymous(tree: Element, facts: Facts) -> tuple[LeftOut, ...]:
    """Take out of a topology's elements what is not to be known.

    Args:
        tree: the whole topology; it is changed.
        facts: what `anonymous_facts` is to make anonymous, to be counted too.
    """
    count = _Count()
    for parent in tree.iter():
        for child in list(parent):
            _take_out(parent, child, count)
    _rename_interfaces(tree, count)
    count.add("host names", "host", int(bool(facts.host)))
    count.add("serial numbers", "serials", len(facts.serials))
    count.add("UUIDs (replaced by stand-ins)", "gpus", len(_uuids((*facts.gpus, *facts.amd_gpus))))
    return count.all()


def _take_out(parent: Element, child: Element, count: _Count) -> None:
    name = child.get("name", "")
    if child.tag == "info" and not (name in _KEPT or re.fullmatch(_KEPT_OF_PORTS, name)):
        kind = next((kind for piece, kind in _KINDS if piece in name.lower()), _OTHERS)
        count.add(kind, name)
    elif child.tag == "userdata":
        count.add(_OTHERS, "userdata")
    elif child.tag == "object" and child.get("type") == "Misc":
        count.add(_OTHERS, "Misc objects")
    else:
        return
    parent.remove(child)


def _rename_interfaces(tree: Element, count: _Count) -> None:
    """Number the interfaces that are named by their MAC, in the order that they have."""
    devices = [each for each in tree.iter("object") if each.get("type") == "OSDev"]
    named = sorted(
        (each.get("name", ""), each) for each in devices if re.fullmatch(_NAMED_BY_MAC, each.get("name", ""))
    )
    for number, (name, device) in enumerate(named):
        device.set("name", f"{name[:3]}{number:012x}")
        count.add("network addresses", "names of interfaces")


# ---- facts ---------------------------------------------------------------------------------------------------


def anonymous_facts(facts: Facts) -> Facts:
    """The facts without names and serial numbers, and with stand-ins for UUIDs wherever they stand."""
    stand_ins = _stand_ins((*facts.gpus, *facts.amd_gpus))

    def without_uuids(text: str) -> str:
        return re.sub(_UUID, lambda match: _stand_in(match, stand_ins), text, flags=re.IGNORECASE)

    return replace(
        facts,
        gpus=tuple(_anonymous_gpu(gpu, stand_ins) for gpu in facts.gpus),
        amd_gpus=tuple(_anonymous_gpu(gpu, stand_ins) for gpu in facts.amd_gpus),
        nvml_error=re.sub(_FOLDERS, "", without_uuids(facts.nvml_error)),
        variables=tuple((name, without_uuids(value)) for name, value in facts.variables),
        serials=(),
        host="",
        anonymous=True,
    )


def _uuids(gpus: Sequence[Gpu]) -> dict[str, None]:
    """All UUIDs, each once, in the GPUs' order."""
    return dict.fromkeys(uuid for gpu in gpus for uuid in (gpu.mig and gpu.mig.parent_uuid, gpu.uuid) if uuid)


def _stand_ins(gpus: Sequence[Gpu]) -> dict[str, str]:
    """A stand-in for each UUID, of the same kind; a rank's own of eight digits are its first."""
    return {uuid: _numbered(uuid, number) for number, uuid in enumerate(_uuids(gpus))}


def _numbered(uuid: str, number: int) -> str:
    """A UUID of the same kind and form; AMD's is one number, and ROCm takes no longer one."""
    kind, _, digits = uuid.partition("-")
    rest = "" if len(digits) == _AMD_DIGITS and "-" not in digits else "-0000-0000-0000-0000"
    return f"{kind if kind in ('GPU', 'MIG') else 'UUID'}-{number:08x}{rest}{'0' * 8}"


def _anonymous_gpu(gpu: Gpu, stand_ins: dict[str, str]) -> Gpu:
    mig = gpu.mig
    if mig is not None and mig.parent_uuid:
        mig = replace(mig, parent_uuid=stand_ins[mig.parent_uuid])
    return replace(gpu, uuid=stand_ins[gpu.uuid] if gpu.uuid else gpu.uuid, mig=mig)


def _stand_in(match: re.Match[str], stand_ins: dict[str, str]) -> str:
    """What stands in for a UUID, or for the beginning of one, which then means the same GPUs.

    The beginning of several becomes what the stand-ins of these have in common, and is as ambiguous; what is no GPU's
    becomes a UUID that none has.
    """
    text = match[0]
    ahead = "MIG-" if text.upper().startswith("MIG-GPU-") else ""  # the name that drivers before R470 gave an instance
    meant = sorted(set(_meant(text[len(ahead) :], stand_ins)))
    if not meant:
        return ahead + _numbered(text[len(ahead) :].upper(), _NOBODY)
    return ahead + (meant[0] if len(meant) == 1 else _common(meant[0], meant[-1]))


def _meant(text: str, stand_ins: dict[str, str]) -> Iterator[str]:
    return (stand_in for uuid, stand_in in stand_ins.items() if uuid.upper().startswith(text.upper()))


def _common(first: str, last: str) -> str:
    """What the first and last of sorted texts have in common, which all between have."""
    length = next((place for place, pair in enumerate(zip(first, last, strict=False)) if len({*pair}) > 1), len(first))
    return first[:length]
