"""libhwloc, loaded and checked: the extension module, its errors as exceptions, and bitmaps in and out.

Only the modules of this wing may use it; nothing of it leaves them.
"""

from __future__ import annotations

import os
import sys

from hwnuma.errors import HwlocError, HwlocVersionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from hwnuma.model.bitmap import Bitmap

    _BitmapT = TypeVar("_BitmapT", bound=Bitmap)


def _why_not_loaded(error: ImportError) -> str:
    """Say why there is no extension module, and tell a source tree that hides the installed package from the rest."""
    from pathlib import Path  # only now: this is somebody's mistake

    folder = Path(__file__).parent
    tree = folder.parent.parent
    if not any(folder.glob("_hwloc.*")) and (tree / "cffi_build").is_dir():
        return (
            f"Python imports hwnuma from its source tree, {tree}, which has no extension module: build that in place "
            f"with pip install -e {tree}, or start Python in another folder to import the hwnuma that is installed"
        )
    return (
        f"hwnuma's extension module cannot be loaded ({error}): reinstall hwnuma, and where it was built against a "
        "libhwloc of your own, see that this libhwloc is still there"
    )


try:
    from hwnuma.hwloc._hwloc import ffi, lib
except ImportError as _error:
    raise HwlocVersionError(_why_not_loaded(_error)) from _error

__all__ = [
    "RUNNING_VERSION",
    "check",
    "ffi",
    "lib",
    "list_text",
    "new_bitmap",
    "parse_list",
    "read_bitmap",
    "version_text",
]


def version_text(version: int) -> str:
    """Write an HWLOC_API_VERSION number as people do: 0x20b00 is 2.11. Some releases do not raise it: 2.9's is 2.8."""
    return f"{version >> 16}.{version >> 8 & 0xFF}"


def check_version(built: int, running: int) -> None:
    """Refuse a libhwloc with another ABI, or an older one than was built against.

    Both load without complaint where the SONAME is the same, and then calls are missing or misread.

    Raises:
        HwlocVersionError: they do not fit.
    """
    if built >> 16 != running >> 16 or running >> 8 < built >> 8:
        raise HwlocVersionError(
            f"hwnuma was built against hwloc's API {version_text(built)} and the libhwloc that was loaded has API "
            f"{version_text(running)}: take the other one off LD_LIBRARY_PATH, or rebuild hwnuma against it "
            "(HWNUMA_HWLOC_PREFIX)"
        )


RUNNING_VERSION: int = lib.hwloc_get_api_version()
check_version(lib.HWLOC_API_VERSION, RUNNING_VERSION)


def check(result: int, what: str) -> int:
    """Turn a negative result of a libhwloc call into an exception.

    Args:
        result: what the call returned.
        what: the function and what was asked of it, for the message.

    Raises:
        HwlocError: with the errno that the call left.
    """
    if result < 0:
        raise HwlocError(ffi.errno, f"{what}: {os.strerror(ffi.errno)}")
    return result


def read_bitmap(kind: type[_BitmapT], bitmap: Any) -> _BitmapT:
    """Copy a hwloc bitmap; one that is not there (NULL) or infinite reads as the empty set."""
    if bitmap == ffi.NULL:
        return kind()
    words = lib.hwloc_bitmap_nr_ulongs(bitmap)
    if words <= 0:
        return kind()
    buffer = ffi.new("unsigned long[]", words)
    lib.hwloc_bitmap_to_ulongs(bitmap, words, buffer)
    return kind.from_mask(int.from_bytes(ffi.buffer(buffer), sys.byteorder))


def new_bitmap(members: Bitmap | None = None) -> Any:
    """Make a hwloc bitmap that is freed with its last reference; empty, or with these members."""
    bitmap = ffi.gc(lib.hwloc_bitmap_alloc(), lib.hwloc_bitmap_free)
    if members:
        size = ffi.sizeof("unsigned long")
        words = members.mask.bit_length() // (8 * size) + 1
        buffer = ffi.from_buffer("unsigned long[]", members.mask.to_bytes(words * size, sys.byteorder))
        check(lib.hwloc_bitmap_from_ulongs(bitmap, words, buffer), "hwloc_bitmap_from_ulongs")
    return bitmap


def list_text(members: Bitmap) -> str:
    """The set as libhwloc itself writes it in list form (hwloc_bitmap_list_asprintf)."""
    text = ffi.new("char **")
    check(lib.hwloc_bitmap_list_asprintf(text, new_bitmap(members)), "hwloc_bitmap_list_asprintf")
    try:
        return bytes(ffi.string(text[0])).decode()
    finally:
        lib.free(text[0])


def parse_list(kind: type[_BitmapT], text: str) -> _BitmapT:
    """Read a list form with libhwloc's own parser (hwloc_bitmap_list_sscanf)."""
    bitmap = new_bitmap()
    check(lib.hwloc_bitmap_list_sscanf(bitmap, text.encode()), f"hwloc_bitmap_list_sscanf {text!r}")
    return read_bitmap(kind, bitmap)
