"""Read a file that somebody names: a regular one, of bounded size, opened once."""

from __future__ import annotations

import os
import stat

from hwnuma.errors import TopologyFileError

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
    name = os.fspath(path)
    try:
        # Without O_NONBLOCK, the opening itself would wait for a FIFO's writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise TopologyFileError(f"cannot read {what} {name}: {error.strerror}") from None
    except ValueError:  # a NUL byte, or characters that no file name has
        raise TopologyFileError(f"cannot read {what} {name!r}: no file can have this name") from None
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
