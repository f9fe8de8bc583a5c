"""Files that somebody names: only regular ones of bounded size are read, and what is refused is told in a sentence."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwnuma import OptionError, TopologyFileError
from hwnuma.hwloc.files import read_regular_file, write_whole_file


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


@pytest.mark.fault("disk", "a file to read is endless, or larger than any", "gives one line, and no memory is taken")
@pytest.mark.parametrize("name", ["/proc/self/maps", "sparse"])
def test_a_larger_file_is_refused_unread(name: str, tmp_path: Path) -> None:
    """One that says its size (a terabyte here) and one that says 0 and has more."""
    with (tmp_path / "sparse").open("wb") as sparse:
        os.truncate(sparse.fileno(), 1 << 40)
    with pytest.raises(TopologyFileError, match="larger than 100 bytes"):
        _read(tmp_path / name, most_bytes=100)


@pytest.mark.fault("pipe", "a file to read is a FIFO, a device or a socket", "gives one line, without waiting")
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


# ---- writing -------------------------------------------------------------------------------------------------


def _write(path: str | Path, content: bytes = b"new") -> None:
    write_whole_file(path, content)


@pytest.fixture
def umask() -> Iterator[None]:
    """A umask that says something, and back again."""
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_a_file_is_written_with_the_mode_of_the_umask_or_its_own(tmp_path: Path) -> None:
    """A new one as open() makes it, and one that replaces a file of the same user as that was; nothing is left beside."""
    _write(tmp_path / "new")
    (tmp_path / "old").write_bytes(b"old")
    (tmp_path / "old").chmod(0o604)
    _write(str(tmp_path / "old"))
    assert [(tmp_path / name).read_bytes() for name in ("new", "old")] == [b"new", b"new"]
    assert [oct((tmp_path / name).stat().st_mode & 0o7777) for name in ("new", "old")] == ["0o640", "0o604"]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["new", "old"]


def test_a_link_is_never_written_through(tmp_path: Path) -> None:
    """In a folder like /tmp, whoever made the link would choose the file that root loses."""
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "link").symlink_to("precious")
    (tmp_path / "nowhere").symlink_to("absent")
    for name in ("link", "nowhere"):
        with pytest.raises(OptionError, match=rf"cannot write .*/{name}: it is a symbolic link"):
            _write(tmp_path / name)
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert not (tmp_path / "absent").exists()
    os.link(tmp_path / "precious", tmp_path / "hard")
    _write(tmp_path / "hard")
    assert (tmp_path / "precious").read_bytes() == b"precious"


@pytest.mark.fault("disk", "the file to write is a device, a FIFO or a folder", "gives one line, and it stays")
@pytest.mark.parametrize("name", ["/dev/null", "/dev/full", "fifo", "folder"])
def test_what_is_no_regular_file_is_not_replaced(name: str, tmp_path: Path) -> None:
    """Root would turn /dev/null into a file; a FIFO would be waited for."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OptionError, match=r"it is a .*; write to standard output \(-\) and redirect that"):
        _write(tmp_path / name)
    assert not (tmp_path / name).is_file()


@pytest.mark.fault("disk", "a write ends half way (RLIMIT_FSIZE)", "gives one line, and the old file whole")
def test_a_file_that_cannot_be_written_whole_is_as_it_was(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: the write fails half way through, in a process of its own."""
    target = tmp_path / "file"
    target.write_bytes(b"old")
    code = (
        "import resource, signal, sys; from hwnuma.hwloc.files import write_whole_file\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try:\n    write_whole_file(sys.argv[1], bytes(9000))\n"
        "except ValueError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], capture_output=True, text=True, check=True)
    assert done.stdout == f"cannot write {target}: File too large\n"
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.fault("disk", "the folder is not there, or the name cannot be", "gives one line, and nothing is left")
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("absent/file", r"its folder cannot be opened \(No such file or directory\)"),
        ("a\0b", "no file can have this name"),
        ("\ud800", "no file can have this name"),
        ("x" * 300, "File name too long"),
        ("", "No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_made_is_told(
    path: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one sentence, and nothing is left."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match=reason):
        _write(path)
    assert list(tmp_path.iterdir()) == []
