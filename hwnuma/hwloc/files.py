"""Read and write a file that somebody names: a regular one, of bounded size, opened once; and whole or not at all."""

from __future__ import annotations

import os
import stat

from hwnuma.errors import OptionError, TopologyFileError
from hwnuma.model.characters import excerpt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Decompressor(Protocol):
        """What zlib's and lzma's decompressors have in common."""

        @property
        def eof(self) -> bool:
            """Whether the end of what was compressed has been reached."""

        def decompress(self, data: bytes, max_length: int, /) -> bytes:
            """Decompress so many bytes at most."""


# How much of a name a message repeats.
_SHOWN = 1000

_OTHER_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO or pipe",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFSOCK: "a socket",
}


def read_regular_file(path: str | os.PathLike[str], *, what: str, most_bytes: int) -> bytes:
    """Read a whole file; refuse what could block for ever (a FIFO), never end (/dev/zero), or is too large.

    It is opened once and judged by its descriptor, so that it cannot be exchanged between the look and the reading. No
    more than the bound is ever held, even of a file that says another size than it has (as those of /proc do) or grows.

    Args:
        path: the file.
        what: what to call it in messages, such as "the topology file".
        most_bytes: the largest size that is read, in bytes.

    Raises:
        TopologyFileError: it cannot be read, is no regular file, or is larger than that.
    """
    name = excerpt(os.fsdecode(path), _SHOWN)
    try:
        # Without O_NONBLOCK, the opening itself would wait for a FIFO's writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise TopologyFileError(f"cannot read {what} {name}: {error.strerror}") from None
    except ValueError:  # a NUL byte, or characters that no file name has
        raise TopologyFileError(f"cannot read {what} {name}: no file can have this name") from None
    try:
        return _content(descriptor, f"{what} {name}", most_bytes)
    except OSError as error:
        raise TopologyFileError(f"cannot read {what} {name}: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _content(descriptor: int, called: str, most_bytes: int) -> bytes:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        kind = _OTHER_KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise TopologyFileError(f"cannot read {called}: it is {kind}, and only a regular file is read; save it to one")
    pieces, room = [], most_bytes + 1
    while room > 0 and status.st_size <= most_bytes and (piece := os.read(descriptor, min(room, 1 << 20))):
        pieces.append(piece)
        room -= len(piece)
    if room <= 0 or status.st_size > most_bytes:
        raise TopologyFileError(
            f"cannot read {called}: it is larger than {most_bytes} bytes, which no file of this kind is"
        )
    return b"".join(pieces)


def write_whole_file(path: str | os.PathLike[str], content: bytes, *, mode: int | None = None) -> None:
    """Write a file so that its name stands for what was there or for all of the new content, whatever happens.

    It is written beside, synced, and renamed. A symbolic link is refused and never followed: in a folder that others
    write to, it would decide which file is lost. A new file has the mode that the umask gives; one that replaces a file
    of this user, that file's.

    Args:
        path: the file, or where there is none yet.
        content: what is to be in it.
        mode: the mode that it is to have from the first moment on, whatever was there.

    Raises:
        OptionError: it cannot be written; what was there is as it was.
    """
    called = excerpt(os.fsdecode(path), _SHOWN)
    above, name = os.path.split(path)
    try:
        folder = os.open(above or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise OptionError(f"cannot write {called}: its folder cannot be opened ({_reason(error)})") from None
    try:
        _replace(folder, name, content, called, mode)
    except OptionError:
        raise
    except (OSError, ValueError) as error:
        raise OptionError(f"cannot write {called}: {_reason(error)}") from None
    finally:
        os.close(folder)


def _reason(error: OSError | ValueError) -> str:
    # ValueError: a NUL byte, or characters that no file name has.
    return error.strerror or str(error) if isinstance(error, OSError) else "no file can have this name"


def _replace(folder: int, name: str, content: bytes, called: str, wanted: int | None) -> None:
    replaced = _mode_of_replaced(folder, name, called)
    mode = replaced if wanted is None else wanted
    beside = f".hwnuma-{os.getpid()}-{os.urandom(6).hex()}"  # O_EXCL: it never is a link, nor a file of somebody else's
    first = 0o666 if wanted is None else wanted  # not for others even while it is empty: they could keep it open
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, first, dir_fd=folder)
    try:
        try:
            if mode is not None:
                os.fchmod(descriptor, mode)
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)  # a disk may tell only now that it is full
        finally:
            os.close(descriptor)
        os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        _tried(os.unlink, beside, dir_fd=folder)
        raise
    _tried(os.fsync, folder)  # some file systems cannot sync a folder; the file is whole in any case


def _tried(call: Callable[..., None], *arguments: object, **named: object) -> None:
    """Do what may fail; contextlib.suppress costs a rank's start more than all that is here."""
    try:
        call(*arguments, **named)
    except OSError:
        return


def _mode_of_replaced(folder: int, name: str, called: str) -> int | None:
    """The mode to keep, if there is a file of ours; None for a new one.

    Raises:
        OptionError: what is there is no regular file.
    """
    try:
        there = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(there.st_mode):
        raise OptionError(f"cannot write {called}: it is a symbolic link, and none is followed; name the file itself")
    if not stat.S_ISREG(there.st_mode):
        kind = _OTHER_KINDS.get(stat.S_IFMT(there.st_mode), "something else")
        raise OptionError(f"cannot write {called}: it is {kind}; write to standard output (-) and redirect that")
    return stat.S_IMODE(there.st_mode) & 0o777 if there.st_uid == os.geteuid() else None


# The dictionary of the strongest of xz's usual levels takes 64 MiB.
_MOST_XZ_MEMORY = 1 << 28


def decompressed(content: bytes, called: str, *, most_bytes: int) -> bytes:
    """Decompress what gzip or xz made; give anything else back as it is.

    Args:
        content: of a file; its first bytes say whether it is compressed.
        called: what to call it in messages.
        most_bytes: the largest size that is made of it, in bytes.

    Raises:
        TopologyFileError: it is damaged, cut short, or larger than that.
    """
    if content.startswith(b"\x1f\x8b"):
        import zlib  # only for a compressed file

        whole, complete = _unpacked(zlib.decompressobj(wbits=31), zlib.error, content, called, most_bytes)
    elif content.startswith(b"\xfd7zXZ\0"):
        import lzma  # likewise

        unpack = lzma.LZMADecompressor(memlimit=_MOST_XZ_MEMORY)
        whole, complete = _unpacked(unpack, lzma.LZMAError, content, called, most_bytes)
    else:
        whole, complete = content, True
    if len(whole) > most_bytes:
        raise TopologyFileError(f"cannot read {called}: it is larger than {most_bytes} bytes, which no topology is")
    if not complete:
        raise TopologyFileError(f"cannot read {called}: it is compressed, and cut short")
    return whole


def _unpacked(
    unpack: Decompressor, damage: type[Exception], content: bytes, called: str, most_bytes: int
) -> tuple[bytes, bool]:
    """At most one byte more than the bound, and whether that is all."""
    try:
        return unpack.decompress(content, most_bytes + 1), unpack.eof
    except damage as error:
        raise TopologyFileError(f"cannot read {called}: it is compressed, and damaged ({error})") from None
