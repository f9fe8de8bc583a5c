"""The fixture machines: in an installed package compressed beside this module, in a source tree those of fixtures/."""

from __future__ import annotations

import os
from pathlib import Path

from hwnuma.errors import OptionError

_PACKED = Path(__file__).parent / "machines"
_SOURCES = Path(__file__).parents[2] / "fixtures" / "topologies"
_ENDINGS = (".xml.xz", ".xml")


def machines() -> tuple[str, ...]:
    """Give the names of the machines that come with hwnuma, in order; what each is, fixtures/README.md says."""
    return tuple(sorted(_files()))


def file_of(machine: str | os.PathLike[str]) -> Path:
    """Find the topology file of a machine.

    Args:
        machine: a name of `machines`, or a file's: a capture, or any topology that `hwnuma plan --topology` reads.

    Raises:
        OptionError: there is neither.
    """
    files = _files()
    if isinstance(machine, str) and machine in files:
        return files[machine]
    given = Path(machine)
    if given.exists():
        return given
    raise OptionError(
        f"there is no machine {os.fspath(machine)!r}, and no file of that name: write the path of a capture "
        f"(hwnuma capture FILE.xml.gz), or one of {', '.join(sorted(files)) or 'the machines, of which none is there'}"
    )


def _files() -> dict[str, Path]:
    for folder in (_PACKED, _SOURCES):
        found = {
            file.name.removesuffix(ending): file
            for ending in _ENDINGS
            for file in (folder.glob(f"*{ending}") if folder.is_dir() else ())
        }
        if found:
            return found
    return {}
