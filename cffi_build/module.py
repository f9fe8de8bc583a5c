"""The extension module hwnuma._hwloc, as cffi compiles it."""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

from cffi_build.find_hwloc import find_hwloc

_HERE = Path(__file__).resolve().parent

hwloc = find_hwloc(_HERE.parent / "build" / "hwloc")
ffibuilder = FFI()
ffibuilder.cdef((_HERE / "declarations.h").read_text())
ffibuilder.set_source(
    "hwnuma._hwloc",
    '#include "shims.h"',
    include_dirs=[str(_HERE), *hwloc.include_dirs],
    sources=hwloc.sources,
    extra_link_args=hwloc.link_args,
    depends=[str(_HERE / "declarations.h"), str(_HERE / "shims.h")],
)
