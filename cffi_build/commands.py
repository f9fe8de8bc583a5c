"""The build commands of ours: what setuptools does not do by itself."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools.command.build_ext import build_ext


class BuildExtWithHwloc(build_ext):
    """Build the extension, and put the libhwloc that is carried, if one is, beside it."""

    def run(self) -> None:
        """Run setuptools' own command, then copy."""
        super().run()
        from cffi_build.module import hwloc  # only now: finding hwloc is part of building, not of making an sdist

        for target in self._package_folders():
            for stale in target.glob("libhwloc-hwnuma.so*"):
                stale.unlink()
            if hwloc.carried is not None:
                shutil.copy2(hwloc.carried, target)

    def _package_folders(self) -> set[Path]:
        folders = {Path(self.build_lib) / "hwnuma"}
        if self.inplace or getattr(self, "editable_mode", False):
            folders.add(Path("hwnuma"))
        return {folder for folder in folders if folder.is_dir()}
