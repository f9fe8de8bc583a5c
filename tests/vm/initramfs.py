"""The guest's first file system: ACPI tables, busybox, `guest_init` and the kernel modules that it needs."""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

# The guest's disks are folders of this machine: 9p over virtio, and an overlay to write on.
_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
_MOUNT_POINTS = ("dev", "proc", "sys", "exchange", "lower", "upper", "root")
_FOLDER, _PROGRAM, _FILE = 0o040755, 0o100755, 0o100644

Entry = tuple[str, int, bytes]


def initramfs(*, busybox: Path, init: Path, modules: Path, tables: Mapping[str, bytes] | None = None) -> bytes:
    """Return an initramfs.

    Args:
        busybox: a busybox that is linked statically.
        init: the script that is to be process 1.
        modules: the folder of the kernel's modules, as in ``/lib/modules/VERSION``: plain files or xz-compressed ones.
        tables: ACPI tables, by the names of their files.
    """
    entries: list[Entry] = [(name, _FILE, table) for name, table in (tables or {}).items()]
    entries += [(name, _FOLDER, b"") for name in ("bin", "modules", *_MOUNT_POINTS)]
    entries.append(("bin/busybox", _PROGRAM, busybox.read_bytes()))
    entries.append(("init", _PROGRAM, init.read_bytes()))
    available = {_module_name(path): path for path in modules.rglob("*.ko*")}
    built_in = {_module_name(Path(line)) for line in (modules / "modules.builtin").read_text().splitlines()}
    wanted = [name for name in _MODULES if name not in built_in]
    for number, path in enumerate(_with_dependencies(wanted, available)):
        # Numbered, since the guest loads them in the order of their names.
        entries.append((f"modules/{number:02}-{_module_name(path)}.ko", _FILE, _read(path)))
    return _cpio(entries)


def _module_name(path: Path) -> str:
    return path.name.partition(".")[0].replace("-", "_")


def _read(path: Path) -> bytes:
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


def _with_dependencies(names: Sequence[str], available: dict[str, Path]) -> list[Path]:
    """Return the files of modules and of all that they depend on, each after those that it depends on."""
    ordered: list[Path] = []
    for name in names:
        # In a module's .modinfo section: names with commas, between zero bytes.
        depends = re.search(rb"\0depends=([^\0]*)\0", _read(available[name]))
        needed = depends[1].decode().replace("-", "_").split(",") if depends and depends[1] else []
        for path in (*_with_dependencies(needed, available), available[name]):
            if path not in ordered:
                ordered.append(path)
    return ordered


def _cpio(entries: Iterable[Entry]) -> bytes:
    """Return a cpio archive of the kind "newc" (Linux, driver-api/early-userspace/buffer-format.rst)."""
    archive = bytearray()
    for inode, (path, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        name = path.encode() + b"\0"
        fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0)
        archive += b"070701" + b"".join(b"%08X" % field for field in fields)
        for part in (name, content):
            archive += part
            archive += bytes(-len(archive) % 4)
    return bytes(archive)
