"""The build commands of ours: what setuptools does not do by itself."""

from __future__ import annotations

import lzma
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from setuptools import Distribution
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

from cffi_build import sbom
from cffi_build.carry import CARRIED_NAME, carry
from cffi_build.find_hwloc import Hwloc, find_hwloc
from cffi_build.long_description import with_absolute_links

if TYPE_CHECKING:
    from cffi import FFI
    from setuptools import Extension

# The kernels of `hwnuma bench` are an extension of their own, which knows nothing of libhwloc.
_WITH_HWLOC = "hwnuma.hwloc._hwloc"


class HwnumaDistribution(Distribution):
    """What pyproject.toml tells, with a long description whose links lead somewhere from the package index too."""

    def parse_config_files(self, *arguments: object, **options: object) -> None:
        """Read the configuration, then change the links."""
        super().parse_config_files(*arguments, **options)
        told = self.metadata
        told.long_description = with_absolute_links(
            told.long_description, told.project_urls["Source"], f"v{told.version}"
        )


class BdistWheelWithSbom(bdist_wheel):
    """Put into the wheel's metadata what it carries."""

    def egg2dist(self, egginfo_path: str, distinfo_path: str) -> None:
        """Write the metadata, here as well as ahead of a build, which has to find the same."""
        super().egg2dist(egginfo_path, distinfo_path)
        folder = Path(distinfo_path, "sboms")
        folder.mkdir()
        (folder / sbom.FILE_NAME).write_text(sbom.bill_of_materials(self.distribution.metadata.version, find_hwloc()))


class BuildExtWithHwloc(build_ext):
    """Build the extension against the libhwloc that is found, and put the carried one, if one is, beside it."""

    _carried: Path | None = None

    def finalize_options(self) -> None:
        """Build anew each time: what an earlier build left may be bound to another libhwloc."""
        super().finalize_options()
        self.force = True

    def pre_run(self, extension: Extension, _ffi: FFI) -> None:
        """Tell the extension where libhwloc is; cffi calls this before it writes the C source."""
        hwloc = find_hwloc()
        extension.extra_compile_args = [*extension.extra_compile_args, *_without_folders(hwloc)]
        if extension.name != _WITH_HWLOC:
            return
        if hwloc.to_carry is not None:
            hwloc = carry(hwloc, Path(self.build_temp))
            self._carried = hwloc.to_carry
        extension.include_dirs = [*extension.include_dirs, *hwloc.include_dirs]
        extension.sources = [*extension.sources, *hwloc.sources]
        extension.extra_link_args = [*extension.extra_link_args, *hwloc.link_args]
        extension.define_macros = [*extension.define_macros, *hwloc.macros]

    def run(self) -> None:
        """Build, and make the package folders hold the carried library, or none."""
        super().run()
        for target in self._package_folders():
            for stale in target.glob(CARRIED_NAME.rpartition(".")[0] + "*"):
                stale.unlink()
            if self._carried is not None:
                shutil.copy2(self._carried, target)

    def _package_folders(self) -> set[Path]:
        folders = {Path(self.build_lib) / "hwnuma" / "hwloc"}
        if self.inplace or getattr(self, "editable_mode", False):
            folders.add(Path("hwnuma", "hwloc"))
        return {folder for folder in folders if folder.is_dir()}


def _without_folders(hwloc: Hwloc) -> list[str]:
    """Compile so that it does not matter in which folders, for who wants the same bytes again.

    Others have compilers that do not know of it yet (it came with GCC 8).
    """
    if "SOURCE_DATE_EPOCH" not in os.environ:
        return []
    folders = {str(Path.cwd()): ".", **dict.fromkeys(hwloc.include_dirs, "hwloc")}
    return [f"-ffile-prefix-map={folder}={name}" for folder, name in folders.items()]


class BuildPyWithMachines(build_py):
    """Copy the modules, and compress the fixture machines into `hwnuma.testing`.

    They are in the source tree once, and are read from there by an editable installation. What is made of the same
    file is the same, whenever that is.
    """

    def run(self) -> None:
        """Copy, and compress."""
        super().run()
        if getattr(self, "editable_mode", False):
            return
        folder = Path(self.build_lib) / "hwnuma" / "testing" / "machines"
        folder.mkdir(parents=True, exist_ok=True)
        for file in Path("fixtures", "topologies").glob("*.xml"):
            packed = lzma.compress(file.read_bytes(), preset=9 | lzma.PRESET_EXTREME)
            (folder / f"{file.name}.xz").write_bytes(packed)
