"""The GPUs as CUDA or HIP works with them, to time copies: the only door to libcuda.so.1 and libamdhip64.so.

Both belong to a driver and are loaded by the dynamic loader when they are asked for: hwnuma is built without either.
What is done here makes a context on each GPU that is used (some hundred MiB of its memory), which nothing else in
hwnuma does. So it is for a process of its own, that ends afterwards: `hwnuma.devices.watched`.
"""

from __future__ import annotations

import ctypes

from hwnuma.errors import GpuRuntimeError, OptionError
from hwnuma.model.gpu import normalize_pci_address
from hwnuma.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# cuda.h (CUDA 11 to 13) and hip_runtime_api.h (ROCm 5 to 7) say what these functions take. CUDA's names with _v2 are
# those that its header gives to programs since CUDA 4.
_ADDRESS_BYTES = 32
_HOST_REGISTER_PORTABLE = 1
_TO_DEVICE, _TO_HOST = 1, 2

CUDA, HIP = "cuda", "hip"


class _Names(Value):
    """One vendor's library: its names, and what to do where it is not there."""

    libraries: tuple[str, ...]
    functions: Mapping[str, str]
    remedy: str


_VENDORS = {
    CUDA: _Names(
        ("libcuda.so.1",),
        {
            "init": "cuInit",
            "count": "cuDeviceGetCount",
            "address": "cuDeviceGetPCIBusId",
            "allocate": "cuMemAlloc_v2",
            "free": "cuMemFree_v2",
            "pin": "cuMemHostRegister_v2",
            "unpin": "cuMemHostUnregister",
        },
        "it belongs to the NVIDIA driver (a container: start it with GPUs, such as --gpus all)",
    ),
    HIP: _Names(
        ("libamdhip64.so", "libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5"),
        {
            "init": "hipInit",
            "count": "hipGetDeviceCount",
            "address": "hipDeviceGetPCIBusId",
            "allocate": "hipMalloc",
            "free": "hipFree",
            "pin": "hipHostRegister",
            "unpin": "hipHostUnregister",
        },
        "it belongs to ROCm: install it, or add its lib folder to LD_LIBRARY_PATH",
    ),
}


class GpuRuntime:
    """CUDA or HIP, started in this process.

    Args:
        kind: `CUDA` or `HIP`.

    Raises:
        GpuRuntimeError: its library is not there, or does not start.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._names = _VENDORS[kind]
        self._library = _loaded(self._names)
        self._call("init", 0)

    def devices(self) -> dict[str, int]:
        """The GPUs that this process sees: what `use` takes, by PCI address; of several at one address the first.

        Raises:
            GpuRuntimeError: they cannot be asked for.
        """
        count = ctypes.c_int(0)
        self._call("count", ctypes.byref(count))
        found: dict[str, int] = {}
        for number in map(self._handle, range(count.value)):
            text = ctypes.create_string_buffer(_ADDRESS_BYTES)
            self._call("address", text, _ADDRESS_BYTES, number)
            try:
                found.setdefault(normalize_pci_address(text.value.decode(errors="replace")), number)
            except OptionError as error:
                raise GpuRuntimeError(f"{self._names.functions['address']}: {error}") from None
        return found

    def _handle(self, ordinal: int) -> int:
        """What calls take for the GPU of that number: to HIP the number itself."""
        if self.kind == HIP:
            return ordinal
        handle = ctypes.c_int(0)
        self._called("cuDeviceGet", ctypes.byref(handle), ordinal)
        return handle.value

    def use(self, device: int) -> GpuInUse:
        """Make a context on a GPU, and memory of it usable by the calling thread; `GpuInUse.close` ends it.

        Raises:
            GpuRuntimeError: the driver refuses.
        """
        return GpuInUse(self, device)

    def pin(self, address: int, size: int) -> None:
        """Pin this process's memory, so that every GPU reads it by itself.

        Raises:
            GpuRuntimeError: the driver refuses, or the limit on locked memory does.
        """
        self._call("pin", ctypes.c_void_p(address), ctypes.c_size_t(size), ctypes.c_uint(_HOST_REGISTER_PORTABLE))

    def unpin(self, address: int) -> None:
        """Let memory go that was pinned.

        Raises:
            GpuRuntimeError: the driver refuses.
        """
        self._call("unpin", ctypes.c_void_p(address))

    def _call(self, what: str, *arguments: object) -> None:
        self._called(self._names.functions[what], *arguments)

    def _called(self, function: str, *arguments: object) -> None:
        """Call a function; ctypes lets other threads run meanwhile."""
        try:
            code = getattr(self._library, function)(*arguments)
        except AttributeError:
            raise GpuRuntimeError(
                f"{self._names.libraries[0]} has no {function}: the driver is older than hwnuma knows"
            ) from None
        if code:
            raise GpuRuntimeError(f"{function} failed: {self._words(code)}")

    def _words(self, code: int) -> str:
        """An error in the driver's own words, such as ``CUDA_ERROR_OUT_OF_MEMORY (2): out of memory``."""
        ask = _cuda_text if self.kind == CUDA else _hip_text
        called, words = (ask(self._library, part, code).decode(errors="replace") for part in ("Name", "String"))
        return f"{called or 'error'} ({code})" + (f": {words}" if words else "")


class GpuInUse:
    """A GPU with a context, and memory on it to copy to and from. Each thread that copies calls `enter` first."""

    def __init__(self, runtime: GpuRuntime, device: int) -> None:
        self._runtime, self._device = runtime, device
        self._memory = ctypes.c_void_p()
        self._context = ctypes.c_void_p()
        if runtime.kind == CUDA:
            runtime._called("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)
        self.enter()

    def enter(self) -> None:
        """Let the calling thread use this GPU.

        Raises:
            GpuRuntimeError: the driver refuses.
        """
        if self._runtime.kind == CUDA:
            self._runtime._called("cuCtxSetCurrent", self._context)
        else:
            self._runtime._called("hipSetDevice", self._device)

    def allocate(self, size: int) -> None:
        """Take memory on the GPU, as much as is to be copied at once.

        Raises:
            GpuRuntimeError: there is not so much.
        """
        self._runtime._call("allocate", ctypes.byref(self._memory), ctypes.c_size_t(size))

    def copy_to_device(self, address: int, size: int) -> None:
        """Copy from pinned memory of this process to the GPU, and wait until it is there."""
        source, target = ctypes.c_void_p(address), self._memory
        if self._runtime.kind == CUDA:
            self._runtime._called("cuMemcpyHtoD_v2", target, source, ctypes.c_size_t(size))
        else:
            self._runtime._called("hipMemcpy", target, source, ctypes.c_size_t(size), _TO_DEVICE)

    def copy_to_host(self, address: int, size: int) -> None:
        """Copy from the GPU to pinned memory of this process, and wait until it is there."""
        target, source = ctypes.c_void_p(address), self._memory
        if self._runtime.kind == CUDA:
            self._runtime._called("cuMemcpyDtoH_v2", target, source, ctypes.c_size_t(size))
        else:
            self._runtime._called("hipMemcpy", target, source, ctypes.c_size_t(size), _TO_HOST)

    def close(self) -> None:
        """Give back the memory and the context.

        Raises:
            GpuRuntimeError: the driver refuses.
        """
        if self._memory:
            memory, self._memory = self._memory, ctypes.c_void_p()
            self._runtime._call("free", memory)
        if self._context:
            self._context = ctypes.c_void_p()
            self._runtime._called("cuDevicePrimaryCtxRelease_v2", self._device)


def _loaded(names: _Names) -> Any:
    reasons = []
    for name in names.libraries:
        try:
            return ctypes.CDLL(name)
        except OSError as error:  # the dynamic loader's own words: not there, or what is wrong with it
            reasons.append(str(error))
    raise GpuRuntimeError(f"{reasons[0]}: {names.remedy}")


def _cuda_text(library: Any, part: str, code: int) -> bytes:
    told = ctypes.c_char_p()
    ask = getattr(library, f"cuGetError{part}", None)
    return (told.value or b"") if ask is not None and ask(code, ctypes.byref(told)) == 0 else b""


def _hip_text(library: Any, part: str, code: int) -> bytes:
    ask = getattr(library, f"hipGetError{part}", None)
    if ask is None:
        return b""
    ask.restype = ctypes.c_char_p
    return ask(code) or b""
