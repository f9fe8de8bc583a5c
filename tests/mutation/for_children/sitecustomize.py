# ruff: noqa: INP001 -- Python itself imports it, by this name, from PYTHONPATH
"""Loads a module with a fault in it, in a Python that `python -m tests.mutation` starts, and in what that one starts."""

import os
import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location


class _Finder:
    def __init__(self, module: str, path: str) -> None:
        self._module, self._path = module, path

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        if name != self._module:
            return None
        open(self._path.replace(".py", ".loaded"), "a").close()  # noqa: PTH123 -- what starts is to load little
        return spec_from_file_location(name, self._path)


if "FAULT_IN_HWNUMA" in os.environ:
    sys.meta_path.insert(0, _Finder(*os.environ["FAULT_IN_HWNUMA"].split("=")))
    sys.dont_write_bytecode = True
