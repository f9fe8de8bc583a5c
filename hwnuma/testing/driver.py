"""The functions of ``libnvidia-ml.so.1`` in Python, for pynvml's own code to call: no C compiler, no other process.

They answer what fake_nvml.c answers from the same description (`hwnuma.testing.nvml`). pynvml hands them what it would
hand to C: numbers, buffers, and references (`ctypes.byref`) to what they fill in.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from hwnuma.errors import OptionError
from hwnuma.model.bitmap import CpuSet, NodeSet
from hwnuma.model.gpu import normalize_pci_address
from hwnuma.testing.nvml import FakeGpu, FakeMig, FakeNvml

# nvml.h, nvmlReturn_t.
_SUCCESS, _UNINITIALIZED, _INVALID_ARGUMENT, _NOT_SUPPORTED, _NOT_FOUND, _INSUFFICIENT_SIZE = 0, 1, 2, 3, 6, 7
_LIBRARY_NOT_FOUND = 12

_MOST_INSTANCES, _WORD = 7, 64
_WITHOUT_INSTANCE = 0xFFFFFFFF
# What C's functions of several versions have in common, these have once.
_VERSIONS = ("_v2", "_v3")

# What pynvml keeps from one call to the next (nvidia-ml-py 12 to 13), and is put back.
_STATE = ("nvmlLib", "_nvmlLib_refcount", "_nvmlGetFunctionPointer", "_LoadNvmlLibrary")


@dataclass
class _Device:
    """A GPU, or a MIG instance of one."""

    fake: FakeGpu | FakeMig
    parent: _Device | None = None


class _RefusedError(Exception):
    """A call fails, with NVML's number."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Driver:
    """A machine's driver; None for one that has none, on which pynvml finds no library."""

    def __init__(self, described: FakeNvml | None, bind: Callable[[CpuSet], None]) -> None:
        """Make one.

        Args:
            described: what it tells.
            bind: binds the calling thread, as nvmlDeviceSetCpuAffinity does.
        """
        self._described = described
        self._bind = bind
        self._users = 0
        self._left: dict[tuple[int, str], int] = {}
        self._whole = [_Device(fake) for fake in (described.gpus if described else ())]
        instances = [_Device(mig, gpu) for gpu in self._whole for mig in _instances(gpu)]
        self._devices = dict(enumerate([*self._whole, *instances], 1))  # a handle is no null pointer

    def put_under(self, pynvml: ModuleType) -> Callable[[], None]:
        """Make pynvml call this driver; give what puts it back."""
        saved = {name: vars(pynvml)[name] for name in _STATE if name in vars(pynvml)}
        caches = [
            (cache, dict(cache))
            for cache in (
                vars(pynvml).get("_nvmlGetFunctionPointer_cache"),
                vars(pynvml.NVMLError).get("_errcode_to_string"),
            )
            if cache is not None
        ]
        functions = _Functions(self)

        def find(name: str) -> object:
            if self._described is None:
                raise pynvml.NVMLError(_LIBRARY_NOT_FOUND)
            found = functions.find(name)
            if found is None:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
            return found

        def load() -> None:
            if self._described is None:
                raise pynvml.NVMLError(_LIBRARY_NOT_FOUND)

        def put_back() -> None:
            vars(pynvml).update(saved)
            for cache, content in caches:
                cache.clear()
                cache.update(content)

        vars(pynvml).update(_nvmlGetFunctionPointer=find, _LoadNvmlLibrary=load, nvmlLib=self, _nvmlLib_refcount=0)
        return put_back

    # ---- what every call goes by -------------------------------------------------------------------------------

    def enter(self, function: str, *handles: int) -> list[_Device]:
        """See that a call may go on, and find the devices that it is about.

        Raises:
            _RefusedError: with the code that it fails with.
        """
        if not self._users and function != "nvmlInit":
            raise _RefusedError(_UNINITIALIZED)
        if self._described is not None:
            self._fail(function, 0, self._described.errors)
        devices = []
        for handle in handles:
            if handle not in self._devices:
                raise _RefusedError(_INVALID_ARGUMENT)
            devices.append(self._devices[handle])
            self._fail(function, handle, devices[-1].fake.errors)
        return devices

    def _fail(self, function: str, handle: int, errors: Mapping[str, int | tuple[int, int]]) -> None:
        if function not in errors:
            return
        what = errors[function]
        code, times = what if isinstance(what, tuple) else (what, -1)
        left = self._left.setdefault((handle, function), times)
        if left:
            self._left[handle, function] = left - 1
            raise _RefusedError(code)


def _instances(gpu: _Device) -> Iterator[FakeMig]:
    mig = gpu.fake.mig if isinstance(gpu.fake, FakeGpu) else None
    return iter(mig) if mig is not None and not isinstance(mig, bool) else iter(())


# ---- what C's pointers are in Python -----------------------------------------------------------------------------


def _number(value: Any) -> int:
    return int(getattr(value, "value", value))


def _referred(reference: Any) -> Any:
    """What `ctypes.byref` refers to; a buffer or an array stands for itself."""
    return getattr(reference, "_obj", reference)


def _handle(value: Any) -> int:
    return int(ctypes.cast(value, ctypes.c_void_p).value or 0)


def _bytes(value: Any) -> str:
    return (getattr(value, "value", value) or b"").decode(errors="surrogateescape")


def _give_text(text: str, buffer: Any) -> None:
    if not text:
        raise _RefusedError(_NOT_SUPPORTED)
    encoded = text.encode(errors="surrogateescape")
    if len(encoded) + 1 > len(buffer):
        raise _RefusedError(_INSUFFICIENT_SIZE)
    buffer.value = encoded


def _give_mask(members: CpuSet | NodeSet | None, needed: int, words: int, array: Any) -> None:
    if members is None:
        raise _RefusedError(_NOT_SUPPORTED)
    if words * _WORD < needed:
        raise _RefusedError(_INSUFFICIENT_SIZE)
    for place in range(words):
        array[place] = members.mask >> (place * _WORD) & ((1 << _WORD) - 1)


def _whole(device: _Device, code: int = _INVALID_ARGUMENT) -> FakeGpu:
    """A GPU; what NVML tells of whole GPUs alone is refused for an instance."""
    if not isinstance(device.fake, FakeGpu):
        raise _RefusedError(code)
    return device.fake


def _answers(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Mark the method that answers a function of NVML's."""

    def mark(method: Callable[..., None]) -> Callable[..., None]:
        method.answers = name  # type: ignore[attr-defined]
        return method

    return mark


def _error_string(code: Any) -> bytes:
    return f"fake NVML's text of error {_number(code)}".encode()


class _Functions:
    """The functions, each marked with NVML's name for it, without a version."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._found: dict[str, Callable[..., int]] = {}
        self._described = driver._described or FakeNvml()

    def find(self, name: str) -> object:
        """The function of a name, or None."""
        for version in _VERSIONS:
            name = name.removesuffix(version)
        if name == "nvmlErrorString":
            return _error_string
        answer = next((each for each in vars(type(self)).values() if getattr(each, "answers", "") == name), None)
        if answer is not None and name not in self._found:
            self._found[name] = _as_in_c(functools.partial(answer, self))
        return self._found.get(name)

    @_answers("nvmlInit")
    def _init(self) -> None:
        self._driver.enter("nvmlInit")
        self._driver._users += 1

    @_answers("nvmlInitWithFlags")
    def _init_with_flags(self, _flags: Any) -> None:
        self._init()

    @_answers("nvmlShutdown")
    def _shutdown(self) -> None:
        self._driver.enter("nvmlShutdown")
        self._driver._users -= 1

    @_answers("nvmlSystemGetDriverVersion")
    def _system_get_driver_version(self, buffer: Any, _size: Any) -> None:
        self._driver.enter("nvmlSystemGetDriverVersion")
        _give_text(self._described.driver, buffer)

    @_answers("nvmlSystemGetNVMLVersion")
    def _system_get_nvml_version(self, buffer: Any, _size: Any) -> None:
        self._driver.enter("nvmlSystemGetNVMLVersion")
        _give_text(self._described.driver, buffer)

    @_answers("nvmlDeviceGetCount")
    def _device_get_count(self, count: Any) -> None:
        self._driver.enter("nvmlDeviceGetCount")
        _referred(count).value = len(self._driver._whole)

    # ---- handles -----------------------------------------------------------------------------------------------

    def _give_handle(self, device: _Device, reference: Any) -> None:
        handle = next(number for number, each in self._driver._devices.items() if each is device)
        ctypes.c_void_p.from_buffer(_referred(reference)).value = handle

    @_answers("nvmlDeviceGetHandleByIndex")
    def _device_get_handle_by_index(self, index: Any, device: Any) -> None:
        number, whole = _number(index), self._driver._whole
        self._driver.enter("nvmlDeviceGetHandleByIndex", *([number + 1] if 0 <= number < len(whole) else []))
        if not 0 <= number < len(whole):
            raise _RefusedError(_INVALID_ARGUMENT)
        self._give_handle(whole[number], device)

    @_answers("nvmlDeviceGetHandleByUUID")
    def _device_get_handle_by_uuid(self, uuid: Any, device: Any) -> None:
        self._driver.enter("nvmlDeviceGetHandleByUUID")
        found = [each for each in self._driver._devices.values() if each.fake.uuid == _bytes(uuid)]
        if not found:
            raise _RefusedError(_NOT_FOUND)
        self._give_handle(found[0], device)

    @_answers("nvmlDeviceGetHandleByPciBusId")
    def _device_get_handle_by_pci_bus_id(self, address: Any, device: Any) -> None:
        self._driver.enter("nvmlDeviceGetHandleByPciBusId")
        try:
            wanted = normalize_pci_address(_bytes(address))
        except OptionError:
            raise _RefusedError(_INVALID_ARGUMENT) from None
        found = [each for each in self._driver._whole if normalize_pci_address(_whole(each).pci) == wanted]
        if not found:
            raise _RefusedError(_NOT_FOUND)
        self._give_handle(found[0], device)

    @_answers("nvmlDeviceGetIndex")
    def _device_get_index(self, handle: Any, index: Any) -> None:
        [device] = self._driver.enter("nvmlDeviceGetIndex", _handle(handle))
        if device.parent is not None:
            raise _RefusedError(_INVALID_ARGUMENT)
        _referred(index).value = self._driver._whole.index(device)

    # ---- what a device is --------------------------------------------------------------------------------------

    @_answers("nvmlDeviceGetPciInfo")
    def _device_get_pci_info(self, handle: Any, info: Any) -> None:
        [device] = self._driver.enter("nvmlDeviceGetPciInfo", _handle(handle))
        address = _whole(device).pci
        filled = _referred(info)
        filled.busId = address.encode(errors="surrogateescape")
        numbers = []
        with contextlib.suppress(ValueError):  # C's sscanf fills in as far as it can read
            numbers += [int(piece, 16) for piece in address.partition(".")[0].split(":")]
        filled.domain, filled.bus, filled.device = [*numbers, 0, 0, 0][:3]
        legacy = f"{filled.domain & 0xFFFF:04x}:{filled.bus & 0xFF:02x}:{filled.device & 0x1F:02x}.0"
        filled.busIdLegacy = legacy.encode()
        filled.pciDeviceId = 0x233010DE

    @_answers("nvmlDeviceGetUUID")
    def _device_get_uuid(self, handle: Any, buffer: Any, _size: Any) -> None:
        [device] = self._driver.enter("nvmlDeviceGetUUID", _handle(handle))
        _give_text(device.fake.uuid or "", buffer)

    @_answers("nvmlDeviceGetName")
    def _device_get_name(self, handle: Any, buffer: Any, _size: Any) -> None:
        [device] = self._driver.enter("nvmlDeviceGetName", _handle(handle))
        _give_text(device.fake.name, buffer)

    # ---- where it is -------------------------------------------------------------------------------------------

    @_answers("nvmlDeviceGetCpuAffinity")
    def _device_get_cpu_affinity(self, handle: Any, words: Any, array: Any) -> None:
        [device] = self._driver.enter("nvmlDeviceGetCpuAffinity", _handle(handle))
        cpus = _whole(device, _NOT_SUPPORTED).cpus
        _give_mask(cpus, self._described.cpus_in_system, _number(words), _referred(array))

    @_answers("nvmlDeviceGetCpuAffinityWithinScope")
    def _device_get_cpu_affinity_within_scope(self, handle: Any, words: Any, array: Any, scope: Any) -> None:
        [device] = self._driver.enter("nvmlDeviceGetCpuAffinityWithinScope", _handle(handle))
        if _number(scope) > 1:
            raise _RefusedError(_INVALID_ARGUMENT)
        cpus = _whole(device, _NOT_SUPPORTED).cpus
        _give_mask(cpus, self._described.cpus_in_system, _number(words), _referred(array))

    @_answers("nvmlDeviceGetMemoryAffinity")
    def _device_get_memory_affinity(self, handle: Any, words: Any, array: Any, scope: Any) -> None:
        [device] = self._driver.enter("nvmlDeviceGetMemoryAffinity", _handle(handle))
        if _number(scope) > 1:
            raise _RefusedError(_INVALID_ARGUMENT)
        _give_mask(_whole(device, _NOT_SUPPORTED).nodes, _WORD, _number(words), _referred(array))

    @_answers("nvmlDeviceGetNumaNodeId")
    def _device_get_numa_node_id(self, handle: Any, _node: Any) -> None:
        # Of GPUs whose own memory is a node of the kernel's, and of no others.
        self._driver.enter("nvmlDeviceGetNumaNodeId", _handle(handle))
        raise _RefusedError(_NOT_SUPPORTED)

    @_answers("nvmlDeviceSetCpuAffinity")
    def _device_set_cpu_affinity(self, handle: Any) -> None:
        [device] = self._driver.enter("nvmlDeviceSetCpuAffinity", _handle(handle))
        cpus = _whole(device, _NOT_SUPPORTED).cpus
        if not cpus:
            raise _RefusedError(_NOT_SUPPORTED)
        self._driver._bind(cpus)

    # ---- NVLinks, MIG, processes -------------------------------------------------------------------------------

    def _links(self, function: str, handle: Any, link: Any, without: int) -> str:
        [device] = self._driver.enter(function, _handle(handle))
        links = _whole(device).nvlinks if isinstance(device.fake, FakeGpu) else {}
        ends = list(itertools.chain.from_iterable([end] * number for end, number in links.items()))
        if _number(link) >= len(ends):
            raise _RefusedError(_INVALID_ARGUMENT if ends else without)
        return ends[_number(link)]

    @_answers("nvmlDeviceGetNvLinkState")
    def _device_get_nvlink_state(self, handle: Any, link: Any, state: Any) -> None:
        self._links("nvmlDeviceGetNvLinkState", handle, link, _NOT_SUPPORTED)
        _referred(state).value = 1

    @_answers("nvmlDeviceGetNvLinkRemoteDeviceType")
    def _device_get_nvlink_remote_device_type(self, handle: Any, link: Any, kind: Any) -> None:
        end = self._links("nvmlDeviceGetNvLinkRemoteDeviceType", handle, link, _INVALID_ARGUMENT)
        _referred(kind).value = 2 if end == "switch" else 0  # nvmlIntNvLinkDeviceType_t

    @_answers("nvmlDeviceGetNvLinkRemotePciInfo")
    def _device_get_nvlink_remote_pci_info(self, handle: Any, link: Any, info: Any) -> None:
        end = self._links("nvmlDeviceGetNvLinkRemotePciInfo", handle, link, _INVALID_ARGUMENT)
        _referred(info).busId = end.encode()

    @_answers("nvmlDeviceGetMigMode")
    def _device_get_mig_mode(self, handle: Any, current: Any, pending: Any) -> None:
        [device] = self._driver.enter("nvmlDeviceGetMigMode", _handle(handle))
        mig = device.fake.mig if isinstance(device.fake, FakeGpu) else None
        if mig is None:
            raise _RefusedError(_NOT_SUPPORTED)
        _referred(current).value = _referred(pending).value = int(mig is not False)

    @_answers("nvmlDeviceGetMaxMigDeviceCount")
    def _device_get_max_mig_device_count(self, handle: Any, count: Any) -> None:
        [device] = self._driver.enter("nvmlDeviceGetMaxMigDeviceCount", _handle(handle))
        mig = device.fake.mig if isinstance(device.fake, FakeGpu) else None
        _referred(count).value = _MOST_INSTANCES if mig not in (None, False) else 0

    @_answers("nvmlDeviceGetMigDeviceHandleByIndex")
    def _device_get_mig_device_handle_by_index(self, handle: Any, index: Any, instance: Any) -> None:
        function = "nvmlDeviceGetMigDeviceHandleByIndex"
        [device] = self._driver.enter(function, _handle(handle))
        if not isinstance(device.fake, FakeGpu) or device.fake.mig is None:
            raise _RefusedError(_NOT_SUPPORTED)
        if _number(index) >= _MOST_INSTANCES:
            raise _RefusedError(_INVALID_ARGUMENT)
        for number, each in self._driver._devices.items():
            if each.parent is device and isinstance(each.fake, FakeMig) and each.fake.place == _number(index):
                self._driver._fail(function, number, each.fake.errors)
                self._give_handle(each, instance)
                return
        raise _RefusedError(_NOT_FOUND)

    @_answers("nvmlDeviceIsMigDeviceHandle")
    def _device_is_mig_device_handle(self, handle: Any, is_instance: Any) -> None:
        [device] = self._driver.enter("nvmlDeviceIsMigDeviceHandle", _handle(handle))
        _referred(is_instance).value = int(device.parent is not None)

    @_answers("nvmlDeviceGetDeviceHandleFromMigDeviceHandle")
    def _device_get_device_handle_from_mig_device_handle(self, handle: Any, whole: Any) -> None:
        [device] = self._driver.enter("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", _handle(handle))
        if device.parent is None:
            raise _RefusedError(_INVALID_ARGUMENT)
        self._give_handle(device.parent, whole)

    @_answers("nvmlDeviceGetGpuInstanceId")
    def _device_get_gpu_instance_id(self, handle: Any, number: Any) -> None:
        [device] = self._driver.enter("nvmlDeviceGetGpuInstanceId", _handle(handle))
        if not isinstance(device.fake, FakeMig):
            raise _RefusedError(_INVALID_ARGUMENT)
        _referred(number).value = device.fake.gpu_instance

    @_answers("nvmlDeviceGetComputeInstanceId")
    def _device_get_compute_instance_id(self, handle: Any, number: Any) -> None:
        [device] = self._driver.enter("nvmlDeviceGetComputeInstanceId", _handle(handle))
        if not isinstance(device.fake, FakeMig):
            raise _RefusedError(_INVALID_ARGUMENT)
        _referred(number).value = device.fake.compute_instance

    @_answers("nvmlDeviceGetComputeRunningProcesses")
    def _device_get_compute_running_processes(self, handle: Any, count: Any, infos: Any) -> None:
        [device] = self._driver.enter("nvmlDeviceGetComputeRunningProcesses", _handle(handle))
        room, pids = _referred(count).value, device.fake.processes
        _referred(count).value = len(pids)
        if room < len(pids):
            raise _RefusedError(_INSUFFICIENT_SIZE)
        for place, pid in enumerate(pids if infos is not None else ()):
            info = _referred(infos)[place]
            mig = device.fake if isinstance(device.fake, FakeMig) else None
            info.pid, info.usedGpuMemory = pid, 1 << 30
            info.gpuInstanceId = mig.gpu_instance if mig else _WITHOUT_INSTANCE
            info.computeInstanceId = mig.compute_instance if mig else _WITHOUT_INSTANCE


def _as_in_c(answer: Callable[..., None]) -> Callable[..., int]:
    """A function that returns a code, as those of C do."""

    def function(*arguments: Any) -> int:
        try:
            answer(*arguments)
        except _RefusedError as refused:
            return refused.code
        return _SUCCESS

    return function
