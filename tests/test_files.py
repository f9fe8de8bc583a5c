"""Files that somebody names: only regular ones of bounded size are read, and what is refused is told in a sentence."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from hwnuma import TopologyFileError
from hwnuma.hwloc.files import read_regular_file


def _read(path: str | Path, most_bytes: int = 1000) -> bytes:
    return read_regular_file(path, what="the file", most_bytes=most_bytes)


def test_a_regular_file_is_read_whole(tmp_path: Path) -> None:
    """Up to the bound itself; and one of /proc, which says that it has no bytes."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1000)
    assert _read(path) == b"x" * 1000
    assert _read("/proc/self/comm").endswith(b"\n")


def test_a_link_is_followed(tmp_path: Path) -> None:
    """A file may be named through a link: what counts is what was opened."""
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert _read(tmp_path / "link") == b"content"


@pytest.mark.parametrize("name", ["/proc/self/maps", "sparse"])
def test_a_larger_file_is_refused_unread(name: str, tmp_path: Path) -> None:
    """One that says its size (a terabyte here) and one that says 0 and has more."""
    with (tmp_path / "sparse").open("wb") as sparse:
        os.truncate(sparse.fileno(), 1 << 40)
    with pytest.raises(TopologyFileError, match="larger than 100 bytes"):
        _read(tmp_path / name, most_bytes=100)


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    """A FIFO without a writer, a device that never ends, a folder, a socket: none is read."""
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for path, reason in (
            (tmp_path / "fifo", "it is a FIFO"),
            (Path("/dev/zero"), "it is a character device"),
            (tmp_path, "it is a folder"),
            (tmp_path / "socket", "cannot read the file"),
        ):
            with pytest.raises(TopologyFileError, match=reason) as caught:
                _read(path)
            assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_a_name_that_no_file_can_have_is_told(name: str) -> None:
    """A NUL byte ends a name for the kernel, and a lone surrogate is no character."""
    with pytest.raises(TopologyFileError, match="no file can have this name"):
        _read(name)
