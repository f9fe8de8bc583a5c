"""The build's one call that pyproject.toml cannot express: the cffi extension and the library it carries."""

import sys
from pathlib import Path

from setuptools import setup

sys.path.insert(0, str(Path(__file__).resolve().parent))  # a PEP 517 build does not put the project there

from cffi_build.commands import BuildExtWithHwloc

setup(
    cffi_modules=["cffi_build/module.py:ffibuilder"],
    cmdclass={"build_ext": BuildExtWithHwloc},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
