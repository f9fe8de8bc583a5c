"""Find the GPUs that a specification names (``auto``, ``amd``, PCI addresses, …), and which of them are visible."""

from __future__ import annotations

from hwnuma.devices.pci import VENDORS, TopologyGpus, gpus_at, is_gpu
from hwnuma.devices.visible import LIST_SHOWN, visible_gpus
from hwnuma.errors import GpuError, GpuNotFoundError, NvmlError, OptionError
from hwnuma.model.characters import excerpt, shown
from hwnuma.model.gpu import FoundGpus, Gpu, normalize_pci_address
from hwnuma.model.option_table import Count
from hwnuma.model.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hwnuma.model.facts import Facts
    from hwnuma.model.machine import Machine


def find_gpus(
    specification: str,
    machine: Machine,
    environment: Mapping[str, str],
    *,
    gpu_nodes: Mapping[str, int] | None = None,
    strict: bool = False,
) -> FoundGpus:
    """Find the GPUs that a specification names.

    Args:
        specification: ``auto`` (NVML, or else the topology's NVIDIA, AMD or Intel GPUs), ``nvml``, ``nvidia``, ``amd``,
            ``intel``, ``none``, or in rank order with commas indexes and ranges of them (``0,2``, ``4-7``: of the GPUs
            that ``auto`` finds) or PCI addresses. NVML is asked only about this system. AMD's GPUs are those that ROCm
            has, in its order and each partition for itself, where this system's kernel or a capture tells.
        machine: the machine that they are in.
        environment: for ``CUDA_VISIBLE_DEVICES`` and its like. Not looked at where indexes or
            addresses are given.
        gpu_nodes: NUMA nodes that somebody states, by PCI address or index.
        strict: raise where the visible devices are ambiguous, instead of warning.

    Raises:
        OptionError: the specification makes no sense, or states a node for a GPU that is not there.
        GpuError: no source works, or none has a GPU; the message says what each said.
    """
    name = specification.strip().lower()
    if name == "none":
        return FoundGpus((), (), "none")
    if ":" in name:
        addressed = state_nodes(gpus_at(machine, [part for part in name.split(",") if part.strip()]), gpu_nodes)
        return FoundGpus(addressed, addressed, "addresses")
    by_index = name != "" and not name.strip("0123456789,- ")
    source, found, vendor, doubts = _all_gpus("auto" if by_index else name, machine, environment)
    everyone = state_nodes(found, gpu_nodes)
    if by_index:
        return FoundGpus(_at_indexes(everyone, name), everyone, source, doubts)
    seen = visible_gpus(everyone, environment, vendor=vendor, strict=strict)
    if not seen.gpus:
        raise GpuNotFoundError(
            f"{seen.variable}={excerpt(seen.value or '', LIST_SHOWN)} leaves none of the {len(everyone)} GPUs visible: "
            "unset it, or plan without GPUs (--gpus none --ranks N)"
        )
    return FoundGpus(seen.gpus, everyone, source, (*doubts, *seen.warnings))


def _at_indexes(gpus: Sequence[Gpu], text: str) -> tuple[Gpu, ...]:
    """The GPUs of a list of indexes and ranges, in its order.

    Raises:
        OptionError: a piece is neither an index nor a range, or is named twice.
        GpuNotFoundError: there is no such GPU.
    """
    by_index = {gpu.index: gpu for gpu in gpus}
    chosen: dict[int, Gpu] = {}
    for piece in filter(None, map(str.strip, text.split(","))):
        first, dash, last = piece.partition("-")
        start = _index(first)
        indexes = range(start, (_index(last) if dash else start) + 1)
        if not indexes or chosen.keys() & set(indexes[: len(by_index) + 1]):
            raise OptionError(f"{shown(piece)} in the GPUs {shown(text)} is a reversed range, or names a GPU twice")
        for index in indexes:
            if index not in by_index:
                raise GpuNotFoundError(f"there is no GPU {index}: the {len(gpus)} GPUs here are 0 to {len(gpus) - 1}")
            chosen[index] = by_index[index]
    return tuple(chosen.values())


def _all_gpus(
    name: str, machine: Machine, environment: Mapping[str, str]
) -> tuple[str, tuple[Gpu, ...], str, tuple[str, ...]]:
    """Ask the sources that a name stands for, in turn.

    Returns:
        Who answered, what, the vendor whose variables count, and warnings.
    """
    if name in VENDORS:
        found, doubts = _as_rocm_has_them(TopologyGpus(machine, name).gpus(), name, machine, environment)
        return "topology", found, name, doubts
    from_driver = machine.is_this_system or machine.facts is not None
    if name == "nvml" and not from_driver:
        raise OptionError(
            f"NVML tells of this system's GPUs, and not of those of {machine.source}: write nvidia or auto"
        )
    if name == "nvml" or (name == "auto" and from_driver):
        try:
            return "nvml", _nvml_gpus() if machine.facts is None else _captured_gpus(machine.facts), "nvidia", ()
        except GpuError as error:
            if name == "nvml":
                raise
            attempt = str(error)
    elif name == "auto":
        attempt = ""
    else:
        raise OptionError(
            f"{shown(name)} names no GPUs: write auto, nvml, {', '.join(VENDORS)}, none, or in rank order indexes such "
            "as 0,2 or 4-7, or PCI addresses such as 0000:07:00.0,0000:0f:00.0"
        )
    try:
        found = TopologyGpus(machine).gpus()
    except GpuNotFoundError as error:
        raise GpuNotFoundError(f"NVML: {attempt}; then: {error}" if attempt else str(error)) from None
    vendor = _vendor_of(machine, found[0])
    # Without NVML, a lost GPU and MIG instances cannot be told; on an AMD or Intel machine it was not to be expected.
    if vendor == "nvidia":
        lost = (f"the GPUs are those of the topology, since NVML does not work: {attempt}",) if attempt else ()
        return "topology", found, vendor, lost
    found, doubts = _as_rocm_has_them(found, vendor, machine, environment)
    return "topology", found, vendor, doubts


def _as_rocm_has_them(
    found: tuple[Gpu, ...], vendor: str, machine: Machine, environment: Mapping[str, str]
) -> tuple[tuple[Gpu, ...], tuple[str, ...]]:
    """The GPUs of a topology, or of AMD's what the kernel told that ROCm has of them; and warnings."""
    if vendor != "amd":
        return found, ()
    if machine.facts is not None:
        told, doubt = machine.facts.amd_gpus, machine.facts.amd_doubt
    elif machine.is_this_system:
        from hwnuma.devices.kfd import read_amd_gpus  # only where there are AMD's

        here = read_amd_gpus(machine, environment.get("HWLOC_FSROOT", ""))
        told, doubt = here.gpus, here.doubt
    else:
        return found, ()
    return told or found, (doubt,) if doubt else ()


def _nvml_gpus() -> tuple[Gpu, ...]:
    # Only now: pynvml costs 25 ms, and a machine without NVIDIA GPUs has no use for it.
    from hwnuma.devices.nvml import NvmlGpus

    return NvmlGpus().gpus()


def _captured_gpus(facts: Facts) -> tuple[Gpu, ...]:
    """What NVML told where the machine was captured.

    Raises:
        NvmlError: it did not work there either, with its words.
    """
    if not facts.gpus:
        raise NvmlError(facts.nvml_error or "NVML told nothing where the machine was captured")
    return facts.gpus


def _vendor_of(machine: Machine, gpu: Gpu) -> str:
    device = machine.pci_device(gpu.pci_address or "")
    return next((vendor for vendor in VENDORS if device is not None and is_gpu(device, vendor)), "nvidia")


def state_nodes(gpus: Sequence[Gpu], gpu_nodes: Mapping[str, int] | None) -> tuple[Gpu, ...]:
    """The GPUs, each with the NUMA node that somebody states for it.

    Raises:
        OptionError: a node is stated for a GPU that is not there.
    """
    stated: dict[str | int, int] = {}
    for key, node in (gpu_nodes or {}).items():
        stated[normalize_pci_address(key) if ":" in key else _index(key)] = node
    unknown = stated.keys() - {gpu.index for gpu in gpus} - {gpu.pci_address for gpu in gpus}
    if unknown:
        there = ", ".join(f"{gpu.index} ({gpu.pci_address})" for gpu in gpus)
        raise OptionError(f"a NUMA node is stated for GPU {min(map(str, unknown))}, but the GPUs are {there}")
    return tuple(
        replace(gpu, numa_node=stated.get(gpu.pci_address or "", stated.get(gpu.index, gpu.numa_node))) for gpu in gpus
    )


def _index(text: str) -> int:
    try:
        return Count()(text)
    except OptionError:
        raise OptionError(f"{shown(text)} is neither a GPU index nor a PCI address") from None


def nvlinks_of(found: FoundGpus, machine: Machine) -> dict[tuple[str, str], int]:
    """How many NVLinks are between each two GPUs, by PCI address; nothing if NVML did not tell of the GPUs."""
    if found.source != "nvml":
        return {}
    if machine.facts is not None:
        return {(link.source, link.target): link.links for link in machine.facts.nvlinks}
    from hwnuma.devices.nvml import NvmlGpus  # only now: pynvml costs 25 ms

    return NvmlGpus().nvlinks()
