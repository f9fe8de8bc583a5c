"""The extension module hwnuma.measure._kernels: the loops that `hwnuma bench` times. It knows nothing of libhwloc."""

from __future__ import annotations

import os
from pathlib import Path

from cffi import FFI

_HERE = Path(__file__).resolve().parent

ffibuilder = FFI()
ffibuilder.cdef((_HERE / "kernels_declarations.h").read_text())
ffibuilder.set_source(
    "hwnuma.measure._kernels",
    '#include "kernels.h"',
    include_dirs=[str(_HERE)],
    sources=[os.path.relpath(_HERE / "kernels.c")],
    extra_compile_args=["-O3"],  # whatever the interpreter was built with: loops that are not vectorised measure less
)
