"""Which GPUs a process may see, and in what order: CUDA_VISIBLE_DEVICES and its relatives, without CUDA.

Pure: the environment is an argument. The rules are those of each vendor's own runtime; where they come
from, and more than forty worked examples, are in ``docs/explanation/visible-devices.md``.

NVIDIA_VISIBLE_DEVICES is not read: it tells a container's runtime which GPUs to put in, and inside the
container NVML and CUDA both have those alone.
"""

from __future__ import annotations

import re

from hwnuma.devices.pci import VENDORS
from hwnuma.errors import GpuNotFoundError, OptionError
from hwnuma.model.characters import excerpt, shown
from hwnuma.model.gpu import Gpu, MigInstance
from hwnuma.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The variables that are read here.
VISIBLE_DEVICES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")
# Likewise: what decides how the GPUs are numbered that those name.
ORDER_VARIABLES = ("CUDA_DEVICE_ORDER", "ZE_FLAT_DEVICE_HIERARCHY")

# More than any machine has GPUs, MIG instances and tiles. A list may be another user's (`hwnuma verify PID` by root).
_MOST_ENTRIES = 1024

# So much of a list as a warning repeats: the UUIDs of 16 GPUs.
LIST_SHOWN = 700


class Visible(Value):
    """The GPUs that a process sees.

    Attributes:
        gpus: in the order in which the process numbers them: position is the CUDA (HIP, Level Zero)
            ordinal. Each keeps its own `index`, that among all GPUs.
        warnings: what a user should know, one sentence each.
        variable: the environment variable that decided, the last one if several did; None if none was set.
        value: its value.
    """

    gpus: tuple[Gpu, ...]
    warnings: tuple[str, ...] = ()
    variable: str | None = None
    value: str | None = None


def visible_gpus(
    gpus: Sequence[Gpu], environment: Mapping[str, str], vendor: str = "nvidia", *, strict: bool = False
) -> Visible:
    """Apply a vendor's environment variables to the GPUs of a machine.

    Args:
        gpus: all GPUs, in the order of ``nvidia-smi`` (that of the PCI addresses).
        environment: the variables of the process in question; nothing else is read.
        vendor: one of `hwnuma.devices.pci.VENDORS`.
        strict: make an error of a warning that says that the order cannot be known.

    Raises:
        OptionError: no such vendor; or, if strict, the order of the GPUs cannot be known.
        GpuNotFoundError: a variable names UUIDs and this source of GPUs knows none.
    """
    if vendor not in VENDORS:
        raise OptionError(f"no GPU vendor {shown(vendor)}: it is one of {', '.join(VENDORS)}")
    if vendor == "amd":
        return _amd(gpus, environment)
    if vendor == "intel":
        return _intel(gpus, environment)
    return _nvidia(gpus, environment, strict=strict)


class _Entry(Value):
    """What one entry of a list means: GPUs, or why it means none; and a remark if it is odd."""

    gpus: tuple[Gpu, ...] = ()
    problem: str = ""
    remark: str = ""


def _entries(variable: str, value: str) -> list[str]:
    """The entries of a list.

    Raises:
        OptionError: there are more than any machine has GPUs.
    """
    if value.count(",") >= _MOST_ENTRIES:
        raise OptionError(f"{variable} is a list of more than {_MOST_ENTRIES} entries, which no machine has GPUs for")
    return value.split(",") if value else []


def _require_uuids(gpus: Sequence[Gpu], variable: str, value: str) -> None:
    """Refuse to answer for UUIDs where no GPU has one: to call them invalid would hide every GPU."""
    if gpus and not any(gpu.uuid for gpu in gpus):
        raise GpuNotFoundError(
            f"{variable}={excerpt(value, LIST_SHOWN)} names GPUs by UUID, and none of the {len(gpus)} GPUs found here "
            "has a known UUID: take the GPUs from NVML, or write indices"
        )


def _stopped(variable: str, value: str, entries: Sequence[str], place: int, problem: str) -> list[str]:
    """The warning for a list that ends early; none for the usual "-1" or an empty entry at the end."""
    if entries[place].strip() in ("", "-1") and place == len(entries) - 1:
        return []
    return [f"{variable}={excerpt(value, LIST_SHOWN)}: the list ends before {shown(entries[place])}, which {problem}"]


# --- NVIDIA ---------------------------------------------------------------------------------------


def _nvidia(gpus: Sequence[Gpu], environment: Mapping[str, str], *, strict: bool) -> Visible:
    value = environment.get("CUDA_VISIBLE_DEVICES")
    chosen, warnings = (list(gpus), list[str]()) if value is None else _cuda_list(gpus, value)
    if chosen and _uuid_prefix(value or "") is None:
        unknown_order = _unknown_order(gpus, environment)
        if unknown_order and strict:
            raise OptionError(unknown_order)
        warnings += [unknown_order] if unknown_order else []
    warnings += _mig_warnings(chosen)
    return Visible(tuple(chosen), tuple(warnings), None if value is None else "CUDA_VISIBLE_DEVICES", value)


def _uuid_prefix(text: str) -> str | None:
    """The kind of UUID that a list is of, which its first characters decide; None for a list of indices."""
    return next((prefix for prefix in ("GPU-", "MIG-") if text.startswith(prefix)), None)


def _cuda_list(gpus: Sequence[Gpu], value: str) -> tuple[list[Gpu], list[str]]:
    """The GPUs that a CUDA_VISIBLE_DEVICES names, and warnings.

    Raises:
        GpuNotFoundError: it names UUIDs, and no GPU has one.
    """
    variable, prefix = "CUDA_VISIBLE_DEVICES", _uuid_prefix(value)
    if prefix is not None:
        _require_uuids(gpus, variable, value)
    chosen: list[Gpu] = []
    remarks: list[str] = []
    ended: list[str] = []
    entries = _entries(variable, value)
    for place, text in enumerate(entries):
        entry = _cuda_index(gpus, text) if prefix is None else _cuda_uuid(gpus, text, prefix)
        if entry.problem:
            ended = _stopped(variable, value, entries, place, entry.problem)
            break
        if any(gpu in chosen for gpu in entry.gpus):
            twice = f"{variable}={excerpt(value, LIST_SHOWN)} names a GPU twice ({shown(text)})"
            return [], [f"{twice}: CUDA then shows no GPU at all"]
        chosen += entry.gpus
        remarks += [entry.remark] if entry.remark else []
    return chosen, [*([f"{variable}={excerpt(value, LIST_SHOWN)}: {', '.join(remarks)}"] if remarks else []), *ended]


# Patterns are compiled where a variable is set, which is seldom.

# C's strtol in base 10: white space and a sign ahead, anything behind. (CUDA reads "1gpu2" as 1.)
_LEADING_INTEGER = r"\s*([+-]?)(?=[0-9])0*([0-9]*)"
_MOST_DIGITS = 9


def _cuda_index(gpus: Sequence[Gpu], text: str) -> _Entry:
    """The GPU, or all MIG instances of the GPU, that nvidia-smi has under a number."""
    match = re.match(_LEADING_INTEGER, text, re.ASCII)
    if match is None:
        return _Entry(problem="is no number" if text.strip() else "is empty")
    sign, digits = match.groups()
    if (sign == "-" and digits) or len(digits) > _MOST_DIGITS:
        return _Entry(problem="is no GPU's index")
    number = int(digits or "0")
    found = tuple(gpu for gpu in gpus if _device_number(gpu) == number)
    if not found:
        last = max(map(_device_number, gpus), default=-1)
        return _Entry(problem="is no GPU's index here" + (f" (the last is {last})" if gpus else ""))
    rest = text[match.end() :].strip()
    return _Entry(found, remark=f"{shown(text.strip())} is read as {number}" if rest else "")


def _device_number(gpu: Gpu) -> int:
    return gpu.index if gpu.device_index is None else gpu.device_index


# Drivers before R470 called an instance by its GPU's UUID and two numbers; the form is still read.
_OLD_MIG_NAME = r"MIG-(GPU-[^/]+)/([0-9]{1,4})/([0-9]{1,4})"


def _cuda_uuid(gpus: Sequence[Gpu], text: str, prefix: str) -> _Entry:
    """The GPU or instance that an unabbreviated or abbreviated UUID stands for."""
    if not text.startswith(prefix):
        return _Entry(problem=f"does not begin with {prefix} as the first entry does")
    if prefix == "MIG-":
        found = tuple(gpu for gpu in gpus if gpu.mig and _is_instance(gpu, gpu.mig, text))
        names = {gpu.uuid for gpu in found}
    else:
        found = tuple(gpu for gpu in gpus if (_whole_uuid(gpu) or "").startswith(text))
        names = {_whole_uuid(gpu) for gpu in found}
    if len(names) == 1:
        return _Entry(found)
    return _Entry(problem=f"is the beginning of {len(names)} UUIDs" if names else "is no UUID of a GPU here")


def _whole_uuid(gpu: Gpu) -> str | None:
    """The UUID of the GPU, of the whole one for an instance."""
    return gpu.mig.parent_uuid if gpu.mig else gpu.uuid


def _is_instance(gpu: Gpu, mig: MigInstance, text: str) -> bool:
    """Whether a MIG instance is called by this beginning of its UUID, or by this name of the old form."""
    old = re.fullmatch(_OLD_MIG_NAME, text, re.ASCII)
    if old is not None and (mig.parent_uuid or "").startswith(old[1]):
        return (mig.gpu_instance, mig.compute_instance) == (int(old[2]), int(old[3]))
    return (gpu.uuid or "").startswith(text)


def _unknown_order(gpus: Sequence[Gpu], environment: Mapping[str, str]) -> str:
    """Why CUDA's numbers may not be those of NVML; "" if they are."""
    # An instance's name is its GPU's, followed by "MIG 1g.5gb".
    models = sorted({gpu.name.partition(" MIG ")[0] for gpu in gpus if gpu.name})
    order = environment.get("CUDA_DEVICE_ORDER")
    if len(models) <= 1 or order == "PCI_BUS_ID":
        return ""
    return (
        f"the GPUs are of different models ({', '.join(models)}) and CUDA_DEVICE_ORDER is "
        f"{'not set' if order is None else excerpt(order)}: CUDA puts the fastest first, which may not be the order of "
        "nvidia-smi that is used here; set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name the GPUs by UUID"
    )


def _mig_warnings(chosen: Sequence[Gpu]) -> list[str]:
    instances = [gpu for gpu in chosen if gpu.mig]
    if not instances or len(chosen) == 1:
        return []
    warning = (
        f"{len(instances)} MIG instances are visible and CUDA shows a process only one: start each rank with "
        "CUDA_VISIBLE_DEVICES set to its own instance's MIG- UUID"
    )
    return [warning]


# --- AMD ------------------------------------------------------------------------------------------


def _amd(gpus: Sequence[Gpu], environment: Mapping[str, str]) -> Visible:
    """ROCR_VISIBLE_DEVICES chooses among all GPUs; HIP_VISIBLE_DEVICES numbers those that it left."""
    chosen, warnings = list(gpus), list[str]()
    variable: str | None = None
    if "ROCR_VISIBLE_DEVICES" in environment:
        variable = "ROCR_VISIBLE_DEVICES"
        chosen, warnings = _rocr_list(chosen, environment[variable])
    # To the HIP runtime, a variable that is set to nothing is one that is not set.
    hip = next((name for name in ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES") if environment.get(name)), None)
    if hip is not None:
        variable = hip
        chosen, more = _hip_list(chosen, hip, environment[hip])
        warnings += more
    return Visible(tuple(chosen), tuple(warnings), variable, None if variable is None else environment[variable])


def _rocr_list(gpus: Sequence[Gpu], value: str) -> tuple[list[Gpu], list[str]]:
    """What the ROCm runtime leaves: the list ends at the first entry that is invalid or a repetition.

    Raises:
        GpuNotFoundError: it names UUIDs, and no GPU has one.
    """
    variable, chosen = "ROCR_VISIBLE_DEVICES", list[Gpu]()
    entries = _entries(variable, value)
    for place, text in enumerate(entries):
        token = text.strip().upper()
        if token.startswith("G"):
            _require_uuids(gpus, variable, value)
            entry = _rocr_uuid(gpus, token)
        else:
            entry = _at(gpus, _c_integer(token))
        problem = entry.problem or ("is named twice" if any(gpu in chosen for gpu in entry.gpus) else "")
        if problem:
            return chosen, _stopped(variable, value, entries, place, problem)
        chosen += entry.gpus
    return chosen, []


def _rocr_uuid(gpus: Sequence[Gpu], token: str) -> _Entry:
    # "GPU-" and up to sixteen hexadecimal digits.
    if not len("GPU-") < len(token) <= len("GPU-") + 16:
        return _Entry(problem="is no UUID")
    found = tuple(gpu for gpu in gpus if (gpu.uuid or "").upper().startswith(token))
    if len(found) == 1:
        return _Entry(found)
    return _Entry(problem=f"is the beginning of {len(found)} UUIDs" if found else "is no UUID of a GPU here")


_C_INTEGER = r"([+-]?)(0X[0-9A-F]+|[0-9]+)"


def _c_integer(token: str) -> int | None:
    """An integer as C's strtol reads it in base 0 (0x10 is hexadecimal, 010 octal), or None."""
    match = re.fullmatch(_C_INTEGER, token, re.ASCII)
    if match is None or len(match[2]) > _MOST_DIGITS:
        return None
    digits = match[2]
    base = 16 if digits.startswith("0X") else 8 if digits.startswith("0") else 10
    try:
        return int(match[1] + digits, base)
    except ValueError:
        return None


def _at(gpus: Sequence[Gpu], position: int | None) -> _Entry:
    """The GPU at a position of what is there."""
    if position is None:
        return _Entry(problem="is no number")
    if not 0 <= position < len(gpus):
        return _Entry(problem=f"is no GPU's index here ({len(gpus)} GPUs)")
    return _Entry((gpus[position],))


def _hip_list(gpus: Sequence[Gpu], variable: str, value: str) -> tuple[list[Gpu], list[str]]:
    """What HIP leaves: the list ends at the first invalid entry, and a repetition changes nothing.

    Raises:
        GpuNotFoundError: it names UUIDs, and no GPU has one.
    """
    chosen: list[Gpu] = []
    entries = _entries(variable, value)
    for place, text in enumerate(entries):
        if "GPU-" in text:
            _require_uuids(gpus, variable, value)
            # HIP takes the first GPU whose UUID has the text in it.
            found = tuple(gpu for gpu in gpus if text in (gpu.uuid or ""))[:1]
            entry = _Entry(found, problem="" if found else "is no UUID of a GPU here")
        else:
            # HIP accepts what is written as it would write the number itself: no sign, no white space.
            digits = re.fullmatch("0|[1-9][0-9]{0,8}", text)
            entry = _at(gpus, int(text) if digits else None)
        if entry.problem:
            return chosen, _stopped(variable, value, entries, place, entry.problem)
        chosen += [gpu for gpu in entry.gpus if gpu not in chosen]
    return chosen, []


# --- Intel ----------------------------------------------------------------------------------------

_ZE_ENTRY = r"([0-9]{1,9})((?:\.[0-9]{1,9})*)"


def _intel(gpus: Sequence[Gpu], environment: Mapping[str, str]) -> Visible:
    """ZE_AFFINITY_MASK is a set: its order changes nothing, and what is not there is passed over."""
    variable = "ZE_AFFINITY_MASK"
    value = environment.get(variable)
    if not value:
        return Visible(tuple(gpus), (), None if value is None else variable, value)
    flat = environment.get("ZE_FLAT_DEVICE_HIERARCHY", "FLAT") != "COMPOSITE"
    chosen, warnings = set[Gpu](), list[str]()
    for text in _entries(variable, value):
        # One or several tiles of a card, after a point: the card is visible, and locality is the card's.
        match = re.fullmatch(_ZE_ENTRY, text.strip(), re.ASCII)
        entry = _at(gpus, int(match[1]) if match else None)
        chosen.update(entry.gpus)
        if entry.problem:
            over = f"{variable}={excerpt(value, LIST_SHOWN)}: {shown(text)} is passed over: it {entry.problem}"
            warnings.append(over + (_TILES if flat else ""))
    return Visible(tuple(gpu for gpu in gpus if gpu in chosen), tuple(warnings), variable, value)


_TILES = (
    "; GPUs of several tiles count each tile unless ZE_FLAT_DEVICE_HIERARCHY=COMPOSITE, which hwnuma does not see: "
    "set that, or name the GPUs by PCI address"
)
