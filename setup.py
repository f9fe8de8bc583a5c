"""The build's one call that pyproject.toml cannot express: the cffi extensions, what is carried, what tells of it."""

import sysconfig

from setuptools import setup

from cffi_build.commands import BdistWheelWithSbom, BuildExtWithHwloc, BuildPyWithMachines, HwnumaDistribution

# A free-threaded Python has no stable ABI before 3.15, and its wheel is for that one version.
stable_abi = {} if sysconfig.get_config_var("Py_GIL_DISABLED") else {"bdist_wheel": {"py_limited_api": "cp310"}}

setup(
    distclass=HwnumaDistribution,
    cffi_modules=["cffi_build/module.py:ffibuilder", "cffi_build/kernels_module.py:ffibuilder"],
    cmdclass={"bdist_wheel": BdistWheelWithSbom, "build_ext": BuildExtWithHwloc, "build_py": BuildPyWithMachines},
    options=stable_abi,
)
