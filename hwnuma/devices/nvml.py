"""The GPUs as NVIDIA's driver knows them: the only door to NVML, through ``pynvml`` (package nvidia-ml-py).

``pynvml`` is imported, and NVML initialised, only inside a call, and NVML is shut down before the call
returns. So nothing is left over that a fork could inherit, importing this module costs nothing, and the
caller's own use of NVML is not disturbed (NVML counts its users). No CUDA context is ever created.

NVML may hang for as long as a GPU does not answer its driver. So it is asked within a time limit, in a child where that
is possible (`hwnuma.devices.watched`): HWNUMA_NVML_TIMEOUT, in seconds.

Tested with nvidia-ml-py 11.525.150 and 13.615.71.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections import Counter
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from hwnuma.devices.watched import NoAnswerError, ask_within
from hwnuma.errors import GpuNotFoundError, NvmlError, OptionError
from hwnuma.model.bitmap import CpuSet, NodeSet
from hwnuma.model.characters import shown
from hwnuma.model.gpu import Gpu, MigInstance, normalize_pci_address
from hwnuma.model.numbers import whole_number
from hwnuma.model.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_LOGGER = logging.getLogger(__name__)

# nvml.h, nvmlReturn_t. Numbers instead of pynvml's classes, so that nothing is imported to name them.
_NOT_SUPPORTED = 3
_NO_PERMISSION = 4
_NOT_FOUND = 6
_INSUFFICIENT_SIZE = 7
_DRIVER_NOT_LOADED = 9
_LIBRARY_NOT_FOUND = 12
_FUNCTION_NOT_FOUND = 13
_GPU_IS_LOST = 15
_RESET_REQUIRED = 16
_VERSION_MISMATCH = 18
_UNKNOWN = 999

_NODE_SCOPE = 0
# NVML_NVLINK_MAX_LINKS is 18 of an H100; an older nvml.h has 12, a later one more.
_MOST_NVLINKS, _LINK_UP = 64, 1
# nvmlIntNvLinkDeviceType_t
_TO_SWITCH, _SWITCH = 2, "switch"
_MIG_ENABLED = 1

# In 64-bit words: 1,024 CPUs at first, and far more than any kernel has at last.
_FIRST_MASK_WORDS, _LAST_MASK_WORDS = 16, 1024

# Longer than a driver without persistence mode takes to wake 16 GPUs one after the other, at some seconds each: a limit
# that a slow start trips would have one rank planned from the topology while the next one is planned from NVML.
_TIMEOUT = "HWNUMA_NVML_TIMEOUT"
_DEFAULT_SECONDS, _MOST_SECONDS = 60, 86_400

_AnswerT = TypeVar("_AnswerT")

_WITHOUT_NVML = "or name the GPUs by PCI address, which needs no driver"

_ADVICE = {
    _NO_PERMISSION: "give this process the /dev/nvidia* device nodes (a container: start it with GPUs: --gpus all)",
    _DRIVER_NOT_LOADED: f"load the kernel module (modprobe nvidia), {_WITHOUT_NVML}",
    _LIBRARY_NOT_FOUND: "libnvidia-ml.so.1 belongs to the NVIDIA driver: install it (a container: start it with GPUs, "
    f"such as --gpus all), {_WITHOUT_NVML}",
    _FUNCTION_NOT_FOUND: f"this driver is older than hwnuma needs: update it, {_WITHOUT_NVML}",
    _GPU_IS_LOST: "it fell off the bus (see Xid in the kernel's log): reset it or reboot; to go on with the others, "
    "name them by PCI address",
    _RESET_REQUIRED: "reset it (nvidia-smi --gpu-reset) or reboot; to go on with the others, name them by PCI address",
    _VERSION_MISMATCH: "the driver's library and its kernel module differ in version, as after an update: reboot, "
    f"or unload and load the nvidia modules, {_WITHOUT_NVML}",
}
_GENERAL_ADVICE = f"see what nvidia-smi says and the kernel's log, {_WITHOUT_NVML}"


class GpuProcess(NamedTuple):
    """A process that has a compute context on a GPU, by the pid that NVML tells."""

    gpu: Gpu
    pid: int


class _CallError(Exception):
    """One NVML call failed: internal, becomes an NvmlError or is a known answer."""

    def __init__(self, call: str, code: int, words: str) -> None:
        super().__init__(call, code, words)
        self.call, self.code, self.words = call, code, words

    def for_user(self, what: str = "") -> NvmlError:
        words = " ".join(self.words.split()).rstrip(".")
        advice = _ADVICE.get(self.code, _GENERAL_ADVICE)
        return NvmlError(f"{what}{self.call} failed: {words} (NVML error {self.code}): {advice}")


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _bus_id(info: Any) -> str:
    try:
        return _text(info.busId)
    except UnicodeDecodeError as error:
        return _text(bytes(error.object))


class _Nvml(Value):
    """pynvml with every failure as a _CallError that knows the call; and what whoever asked is to log."""

    pynvml: Any
    remarks: list[str]

    def __call__(self, function: str, *arguments: object) -> Any:
        call: Callable[..., Any] | None = getattr(self.pynvml, function, None)
        if call is None:
            raise _CallError(function, _FUNCTION_NOT_FOUND, "this pynvml has no such function")
        try:
            return call(*arguments)
        except self.pynvml.NVMLError as error:
            # The dynamic loader's own words say which library was missing, or what is wrong with it.
            loader = f": {error.__context__}" if isinstance(error.__context__, OSError) else ""
            raise _CallError(function, error.value, f"{error}{loader}") from error
        except UnicodeDecodeError as error:  # pynvml decodes what the driver says; a name may be what is wrong with it
            return _text(bytes(error.object))
        except Exception as error:  # what a driver makes pynvml raise is not documented
            raise _CallError(function, _UNKNOWN, f"pynvml raised {type(error).__name__}: {error}") from error

    def unless(self, codes: tuple[int, ...], function: str, *arguments: object) -> Any:
        """Call, with None for these error codes."""
        try:
            return self(function, *arguments)
        except _CallError as error:
            if error.code in codes:
                return None
            raise

    def hint(self, function: str, *arguments: object) -> Any:
        """Call for something that can be done without: None for every error but a lost GPU's."""
        try:
            return self(function, *arguments)
        except _CallError as error:
            if error.code in (_GPU_IS_LOST, _RESET_REQUIRED):
                raise
            return None

    def mask(self, function: str, handle: object, *arguments: object) -> int | None:
        """Ask for a bit mask, with as many words as it takes; None if it is not supported."""
        words = _FIRST_MASK_WORDS
        while words <= _LAST_MASK_WORDS:
            try:
                answer = self(function, handle, words, *arguments)
            except _CallError as error:
                if error.code in (_GPU_IS_LOST, _RESET_REQUIRED):
                    raise
                if error.code != _INSUFFICIENT_SIZE:
                    return None
                words *= 2
            else:
                return sum(int(word) << (64 * place) for place, word in enumerate(answer))
        return None


def load_pynvml() -> Any:
    """Import pynvml. Apart, since `hwnuma.testing` gives another one here."""
    return importlib.import_module("pynvml")


@contextmanager
def _nvml() -> Iterator[_Nvml]:
    """NVML, initialised for the length of a with block.

    Raises:
        NvmlError: pynvml is missing, NVML does not start, or a call inside the block failed.
    """
    try:
        pynvml = load_pynvml()
    except Exception as error:  # whatever is wrong with that package
        raise NvmlError(
            f"NVML cannot be asked for the GPUs: {error}: pip install nvidia-ml-py, {_WITHOUT_NVML}"
        ) from error
    nvml = _Nvml(pynvml, [])
    try:
        nvml("nvmlInit")
        try:
            yield nvml
        finally:
            # Nothing that was found out is wrong because NVML does not close well.
            nvml.hint("nvmlShutdown")
    except _CallError as error:
        raise error.for_user() from None


class _Device(NamedTuple):
    """A Gpu and the NVML handle to ask more about it; the handle dies with NVML's shutdown."""

    gpu: Gpu
    handle: object


def _whole_gpu(nvml: _Nvml, device_index: int, handle: object) -> Gpu:
    bus_id = _bus_id(nvml("nvmlDeviceGetPciInfo", handle))
    uuid, name = nvml.hint("nvmlDeviceGetUUID", handle), nvml.hint("nvmlDeviceGetName", handle)
    cpus = nvml.mask("nvmlDeviceGetCpuAffinityWithinScope", handle, _NODE_SCOPE)
    if cpus is None:
        cpus = nvml.mask("nvmlDeviceGetCpuAffinity", handle)
    nodes = nvml.mask("nvmlDeviceGetMemoryAffinity", handle, _NODE_SCOPE)
    try:
        address = normalize_pci_address(bus_id)
    except OptionError:
        raise NvmlError(
            f"NVML tells {shown(bus_id)} as the PCI address of its GPU {device_index}, which cannot be read: "
            "name the GPUs by PCI address"
        ) from None
    return Gpu(
        index=device_index,
        pci_address=address,
        uuid=uuid and _text(uuid),
        name=name and _text(name),
        cpu_affinity=None if cpus is None else CpuSet.from_mask(cpus),
        memory_affinity=None if nodes is None else NodeSet.from_mask(nodes),
        device_index=device_index,
    )


def _mig_instances(nvml: _Nvml, whole: Gpu, handle: object) -> Iterator[_Device]:
    """The MIG instances of a GPU: NVML keeps a place for each that could be, and most may be vacant."""
    for place in range(nvml("nvmlDeviceGetMaxMigDeviceCount", handle)):
        instance = nvml.unless((_NOT_FOUND, _NO_PERMISSION), "nvmlDeviceGetMigDeviceHandleByIndex", handle, place)
        if instance is None:
            continue
        uuid, name = nvml.hint("nvmlDeviceGetUUID", instance), nvml.hint("nvmlDeviceGetName", instance)
        mig = MigInstance(
            parent_uuid=whole.uuid,
            gpu_instance=nvml.hint("nvmlDeviceGetGpuInstanceId", instance),
            compute_instance=nvml.hint("nvmlDeviceGetComputeInstanceId", instance),
        )
        # The rest, locality above all, is the whole GPU's: NVML answers it for whole GPUs only.
        yield _Device(replace(whole, uuid=uuid and _text(uuid), name=name and _text(name), mig=mig), instance)


def _devices_at(nvml: _Nvml, device_index: int) -> list[_Device]:
    """What NVML's device N contributes: itself, its MIG instances, or nothing.

    Raises:
        NvmlError: the GPU does not answer; the message names it.
    """
    try:
        handle = nvml.unless((_NO_PERMISSION,), "nvmlDeviceGetHandleByIndex", device_index)
        if handle is None:
            nvml.remarks.append(f"GPU {device_index} is left out: NVML gives this process no permission for it")
            return []
        whole = _whole_gpu(nvml, device_index, handle)
        # NOT_SUPPORTED: a GPU before MIG; FUNCTION_NOT_FOUND: a driver before MIG.
        mode = nvml.unless((_NOT_SUPPORTED, _FUNCTION_NOT_FOUND), "nvmlDeviceGetMigMode", handle)
        if mode is None or mode[0] != _MIG_ENABLED:
            return [_Device(whole, handle)]
        instances = list(_mig_instances(nvml, whole, handle))
        if not instances:
            nvml.remarks.append(f"{whole} is left out: MIG is enabled and it has no instance, so CUDA cannot use it")
        return instances
    except _CallError as error:
        raise error.for_user(f"GPU {device_index}: ") from None


def _devices(nvml: _Nvml) -> list[_Device]:
    """All GPUs that this process may use, numbered in NVML's order (that of the PCI addresses).

    Raises:
        GpuNotFoundError: there is none.
        NvmlError: one of them does not answer.
    """
    count = nvml("nvmlDeviceGetCount")
    found = [device for device_index in range(count) for device in _devices_at(nvml, device_index)]
    if count and not found:
        raise GpuNotFoundError(
            f"NVML has {count} GPUs and this process can use none of them: it has no permission (needs the "
            "/dev/nvidia* device nodes), or MIG is enabled without an instance (nvidia-smi -L shows them)"
        )
    if not found:
        raise GpuNotFoundError(f"NVML works and finds no GPU: see nvidia-smi -L, {_WITHOUT_NVML}")
    return [device._replace(gpu=_numbered(device.gpu, index)) for index, device in enumerate(found)]


def _numbered(gpu: Gpu, index: int) -> Gpu:
    """A Gpu with its index; device_index only where it says something else."""
    same = gpu.mig is None and gpu.device_index == index
    return replace(gpu, index=index, device_index=None if same else gpu.device_index)


class Inventory(Value):
    """All that NVML tells of a machine's GPUs that is worth keeping.

    Attributes:
        gpus: as `NvmlGpus.gpus`.
        nvlinks: as `NvmlGpus.nvlinks`.
        serials: serial numbers by PCI address, where they were asked for.
        driver: the driver's version, or None.
    """

    gpus: tuple[Gpu, ...] = ()
    nvlinks: Mapping[tuple[str, str], int] = {}
    serials: Mapping[str, str] = {}
    driver: str | None = None


class NvmlGpus(Value):
    """The NVIDIA GPUs of this machine, from the driver.

    In NVML's order, which is that of ``nvidia-smi`` and of the PCI addresses. Of a GPU with MIG enabled,
    each instance is a GPU of its own, at the address of the whole one; without any instance it is not
    there, since CUDA cannot use it. A GPU that this process has no permission for (another job's) is not
    there either. CUDA_VISIBLE_DEVICES is not looked at: see `hwnuma.devices.visible`.
    """

    @property
    def name(self) -> str:
        """What the source is called in messages and in a plan."""
        return "nvml"

    def gpus(self) -> tuple[Gpu, ...]:
        """All GPUs that this process may use, in index order. NVML is initialised and shut down once.

        One GPU that is lost or needs a reset is an error that names it, and not a shorter list: every
        GPU after it would get another index, and ranks would be planned next to the wrong ones.

        Raises:
            NvmlError: pynvml or NVML is missing, does not work, or one GPU does not answer.
            GpuNotFoundError: NVML works and this process can use no GPU.
        """
        return _within_time_limit(_ask_gpus)

    def processes(self) -> tuple[GpuProcess, ...]:
        """All processes with a compute context on a GPU, in order of GPU index and pid.

        NVML tells those that it may show: in a container often only the container's own, and their
        pids may be those of the host.

        Raises:
            NvmlError: as for `gpus`, or the driver cannot tell.
            GpuNotFoundError: as for `gpus`.
        """
        return _within_time_limit(_ask_processes)

    def nvlinks(self) -> dict[tuple[str, str], int]:
        """How many NVLinks are up between each two GPUs, by their PCI addresses, both ways.

        Links to NVSwitches lead to every GPU that has such links: as many as the GPU with fewer of them has.

        Raises:
            NvmlError: as for `gpus`.
            GpuNotFoundError: as for `gpus`.
        """
        return _within_time_limit(_ask_nvlinks)

    def inventory(self, *, serials: bool = False) -> Inventory:
        """Ask for all of it at once.

        Args:
            serials: ask for serial numbers too.

        Raises:
            NvmlError: as for `gpus`.
            GpuNotFoundError: as for `gpus`.
        """
        return _within_time_limit(_ask_inventory_with_serials if serials else _ask_inventory)


def _within_time_limit(ask: Callable[[_Nvml], _AnswerT]) -> _AnswerT:
    """Initialise NVML, ask it, and shut it down.

    Raises:
        NvmlError: it does not work, or does not answer in time.
        OptionError: the time limit makes no sense.
    """
    limit = whole_number(os.environ.get(_TIMEOUT) or str(_DEFAULT_SECONDS), f"{_TIMEOUT} (seconds)", 1, _MOST_SECONDS)

    def answer_and_remarks() -> tuple[_AnswerT, list[str]]:
        with _nvml() as nvml:
            return ask(nvml), nvml.remarks

    try:
        answer, remarks = ask_within(limit, answer_and_remarks, in_child="pynvml" not in sys.modules)
    except NoAnswerError as error:
        longer = f"; {_TIMEOUT}=SECONDS waits longer" if error.is_late else ""
        raise NvmlError(f"NVML cannot be asked for the GPUs: {error}: {_GENERAL_ADVICE}{longer}") from None
    for remark in remarks:
        _LOGGER.info("%s", remark)
    return answer


def _ask_gpus(nvml: _Nvml) -> tuple[Gpu, ...]:
    return tuple(device.gpu for device in _devices(nvml))


def _ask_processes(nvml: _Nvml) -> tuple[GpuProcess, ...]:
    return tuple(GpuProcess(device.gpu, pid) for device in _devices(nvml) for pid in _pids(nvml, device))


def _ask_nvlinks(nvml: _Nvml) -> dict[tuple[str, str], int]:
    return _nvlinks(nvml, _devices(nvml))


def _ask_inventory(nvml: _Nvml) -> Inventory:
    devices = _devices(nvml)
    driver = nvml.hint("nvmlSystemGetDriverVersion")
    return Inventory(
        tuple(device.gpu for device in devices),
        _nvlinks(nvml, devices),
        driver=None if driver is None else _text(driver),
    )


def _ask_inventory_with_serials(nvml: _Nvml) -> Inventory:
    asked = [(device.gpu.pci_address, nvml.hint("nvmlDeviceGetSerial", device.handle)) for device in _devices(nvml)]
    serials = {address: _text(serial) for address, serial in asked if address and serial}
    return replace(_ask_inventory(nvml), serials=serials)


def _nvlinks(nvml: _Nvml, devices: Sequence[_Device]) -> dict[tuple[str, str], int]:
    whole = [device for device in devices if device.gpu.mig is None and device.gpu.pci_address]
    ends = {str(device.gpu.pci_address): Counter(_link_ends(nvml, device.handle)) for device in whole}
    pairs = ((one, other) for one in ends for other in ends if one != other)
    links = {(one, other): ends[one][other] + min(ends[one][_SWITCH], ends[other][_SWITCH]) for one, other in pairs}
    return {pair: number for pair, number in links.items() if number}


def _link_ends(nvml: _Nvml, handle: object) -> Iterator[str]:
    """Where each NVLink of a GPU leads that is up: to a PCI address, or to a switch."""
    for link in range(_MOST_NVLINKS):
        state = nvml.hint("nvmlDeviceGetNvLinkState", handle, link)
        if state is None:  # no such link, or no NVLink at all
            return
        if state != _LINK_UP:
            continue
        if nvml.hint("nvmlDeviceGetNvLinkRemoteDeviceType", handle, link) == _TO_SWITCH:
            yield _SWITCH
            continue
        remote = nvml.hint("nvmlDeviceGetNvLinkRemotePciInfo", handle, link)
        try:
            yield normalize_pci_address(_text(remote.busId)) if remote is not None else ""
        except OptionError:
            yield ""


def _pids(nvml: _Nvml, device: _Device) -> list[int]:
    """The pids on a GPU, each once.

    Raises:
        NvmlError: NVML cannot tell.
    """
    attempts = 3
    for attempt in range(1, attempts + 1):
        try:
            # Not nvmlDeviceGetComputeRunningProcesses: of an old driver, it raises what is no NVMLError.
            found = nvml("nvmlDeviceGetComputeRunningProcesses_v3", device.handle)
        except _CallError as error:
            # pynvml asks for the number first: more processes may have come since.
            if error.code != _INSUFFICIENT_SIZE or attempt == attempts:
                raise error.for_user(f"{device.gpu}: ") from None
        else:
            return sorted({int(process.pid) for process in found})
    raise AssertionError("not reached")  # pragma: no cover -- the last attempt returns or raises
