"""The extension module hwnuma.hwloc._hwloc, as cffi compiles it. `commands` adds the libhwloc that is found."""

from __future__ import annotations

import os
from pathlib import Path

from cffi import FFI

_HERE = Path(__file__).resolve().parent

_SOURCES = (
    "annotate.c", "bind_self.c", "configure.c", "copy_out.c", "fork_safe.c", "look_at_xml.c", "memory_attributes.c",
    "try_xml.c",
)  # fmt: skip

ffibuilder = FFI()
ffibuilder.cdef((_HERE / "declarations.h").read_text())
ffibuilder.set_source(
    "hwnuma.hwloc._hwloc",
    '#include "hwnuma.h"',
    include_dirs=[str(_HERE)],
    sources=[os.path.relpath(_HERE / name) for name in _SOURCES],
)
