"""What the command line writes, where it writes to and cannot: one line and the right exit status, and no traceback."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwnuma.cli import output, start
from hwnuma.cli.progress import Progress
from tests.conftest import TOPOLOGIES
from tests.forked import hwnuma
from tests.namespaces import can_unshare
from tests.processes import clean_environment
from tests.require import require

DGX = str(TOPOLOGIES / "dgx_a100_nps4.xml")
HWNUMA = (sys.executable, "-m", "hwnuma")
WRITERS = {
    "plan": ("plan", "--topology", DGX),
    "plan as JSON": ("plan", "--topology", DGX, "--format", "json"),
    "plan for Slurm": ("plan", "--topology", DGX, "--format", "slurm"),
    "show": ("show", "--topology", DGX),
    "gpus": ("gpus", "--topology", DGX),
    "gpus as JSON": ("gpus", "--topology", DGX, "--format", "json"),
    "capture": ("capture", "-"),
    "verify": ("verify", "--cpus", "0-8191", str(os.getpid())),
    "version": ("--version",),
    "help": ("--help",),
    "help of plan": ("plan", "--help"),
    "help of exec": ("exec", "--help"),
}


def sh(script: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script whose ``"$@"`` is hwnuma with these words."""
    return subprocess.run(
        ["bash", "-c", script, "-", *HWNUMA, *words],
        capture_output=True, text=True, check=False, env=clean_environment(**environment), timeout=120,
    )  # fmt: skip


@pytest.mark.fault("disk", "standard output is full (/dev/full), or closed", "gives one line and exit status 2")
@pytest.mark.parametrize("words", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize(
    ("is_full", "reason"),
    [(True, "cannot write to standard output: No space left on device"), (False, "standard output is closed")],
    ids=["full", "closed"],
)
def test_what_cannot_be_written_is_an_error(words: tuple[str, ...], is_full: bool, reason: str) -> None:
    """Every command, its help included: exit status 2 and one line."""
    if is_full:
        with Path("/dev/full").open("wb") as full:
            done = hwnuma(words, clean_environment(), output=full)
    else:
        done = sh('exec "$@" >&-', *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("hwnuma")
    assert reason in done.stderr


@pytest.mark.fault("pipe", "the reader of standard output has gone", "gives exit status 0 and no word")
@pytest.mark.parametrize("words", WRITERS.values(), ids=WRITERS)
def test_a_reader_that_has_had_enough_is_no_error(words: tuple[str, ...]) -> None:
    """`hwnuma plan | head -1`, with a reader that is gone before anything is written."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        done = hwnuma(words, clean_environment(), output=pipe)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.fault("disk", "standard error is full, or closed", "gives the same output and exit status")
@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
def test_a_standard_error_that_takes_nothing_changes_nothing(redirection: str) -> None:
    """A warning or an error gets lost, not the output and the exit status, and nothing goes to standard output instead."""
    warned = sh(f'exec "$@" {redirection}', *WRITERS["plan for Slurm"], CUDA_VISIBLE_DEVICES="0")
    assert warned.returncode == 0
    assert warned.stdout.startswith("--cpu-bind=mask_cpu:")
    assert warned.stdout.count("\n") == 1
    assert sh(f'exec "$@" {redirection}', "plan", "--ranks", "x").returncode == 2
    assert sh(f'exec "$@" {redirection}', "nonsense").returncode == 2
    assert sh(f'exec "$@" {redirection}', "exec", "--cpus", "0", "--", "/nowhere").returncode == 127
    done = sh(f'exec "$@" {redirection}', "exec", "--gpus", "amd", "--local-rank", "0", "--fallback", "echo", "ran")
    assert (done.returncode, done.stdout) == (0, "ran\n")


def test_a_locale_with_few_characters_gets_escapes() -> None:
    """The help has an ellipsis, which ASCII has not."""
    ascii_only = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = sh('exec "$@"', "exec", "--help", **ascii_only)
    assert (done.returncode, done.stderr) == (0, "")
    assert "COMMAND\\u2026" in done.stdout
    done = sh('exec "$@"', "plan", "--ranks", "…", **ascii_only)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


# ---- characters from outside ---------------------------------------------------------------------------------

EVIL = "a\x1b[31m\n\r\x07\x9b\u202eb"


@pytest.mark.parametrize(
    "words",
    [
        ("plan", "--topology", EVIL),
        ("plan", "--topology", DGX, "--nccl-topo", EVIL),
        ("plan", "--synthetic", EVIL),
        ("plan", "--topology", DGX, "--mode", EVIL),
        ("plan", "--topology", DGX, "--gpus", EVIL),
        ("plan", "--topology", DGX, "--gpu-node", EVIL),
        ("plan", "--topology", DGX, "--reserve-cpus", EVIL),
        ("plan", "--topology", DGX, "--ranks", EVIL),
        ("plan", "--topology", DGX, "--format", EVIL),
        ("plan", "--topology", DGX, "--allowed-cpus", EVIL),
        ("plan", f"--{EVIL}"),
        ("plan", "--topology", DGX, EVIL),
        ("verify", EVIL),
        ("bind", "--cpus", "0", EVIL),
        ("bind", "--cpus", EVIL, "1"),
        ("exec", "--cpus", EVIL, "true"),
        ("exec", "--local-rank", EVIL, "true"),
        ("exec", f"--{EVIL}", "true"),
        ("exec", "--cpus", "0", "--", EVIL),
        ("exec", "--cpus", "0", "--", f"/nowhere/{EVIL}"),
        ("capture", f"/nowhere/{EVIL}"),
        (EVIL,),
        (f"-{EVIL}",),
    ],
    ids=lambda words: " ".join(words)[:30].encode("unicode_escape").decode(),
)
@pytest.mark.parametrize("byte", [b"", b"\xff"], ids=["text", "bytes"])
def test_an_odd_argument_is_one_line_that_only_shows_it(words: tuple[str, ...], byte: bytes) -> None:
    """Whatever an argument holds, also bytes that are no text: an error of one printable line, and no traceback."""
    done = hwnuma([word.replace(EVIL, EVIL + os.fsdecode(byte)) for word in words], clean_environment())
    _one_printable_line(done.returncode, done.stdout, done.stderr)


def _one_printable_line(status: int, output: str, said: str) -> None:
    assert status in (1, 2, 127), said
    assert output == ""
    assert said.count("\n") == 1, said
    assert said.rstrip("\n").isprintable()
    assert "Traceback" not in said


def test_a_topologys_name_and_a_devices_name_are_shown_and_not_obeyed(tmp_path: Path) -> None:
    """A path with escape codes and a byte that is no text stands in the table, in the drawing, and in JSON as it is."""
    name = os.fsencode(tmp_path / "evil\x1b[31m\n\u202e") + b"\xff.xml"
    Path(os.fsdecode(name)).write_bytes(Path(DGX).read_bytes())
    for command in ("plan", "show", "gpus"):
        done = subprocess.run(
            [*HWNUMA, command, "--topology", name], capture_output=True, check=True, env=clean_environment(), timeout=60
        )
        text = done.stdout.decode()
        assert all(line.isprintable() for line in text.split("\n"))
        assert command == "gpus" or r"evil\x1b[31m\n\u202e\xff.xml" in text
    done = subprocess.run(
        [*HWNUMA, "plan", "--topology", name, "--format", "json"], capture_output=True, check=True, timeout=60
    )
    assert done.stdout.isascii()
    assert os.fsencode(json.loads(done.stdout)["topology"]) == name


def test_json_has_no_control_character_at_all(tmp_path: Path) -> None:
    """A path with DEL, a C1 control and a bidirectional one: all are JSON's own escapes."""
    path = tmp_path / "a\x7fb\x9b\u202e.xml"
    path.write_bytes(Path(DGX).read_bytes())
    done = sh('exec "$@"', "gpus", "--format", "json", "--topology", str(path))
    assert done.stdout.isascii()
    assert all(line.isprintable() for line in done.stdout.split("\n"))
    assert json.loads(done.stdout)["topology"] == str(path)


@pytest.mark.parametrize(
    "variable",
    [
        "HWNUMA_MODE", "HWNUMA_GPUS", "HWNUMA_RANKS", "HWNUMA_CPUS", "HWNUMA_FALLBACK", "HWNUMA_OMP", "HWNUMA_VERBOSE",
        "HWNUMA_LOCAL_RANK", "HWNUMA_NVML_TIMEOUT", "HWNUMA_OUTER_MASK", "LOCAL_RANK", "LOCAL_WORLD_SIZE",
        "CUDA_VISIBLE_DEVICES", "SLURM_STEP_TASKS_PER_NODE", "NCCL_TOPO_FILE", "OMP_PLACES", "HWNUMA_\x1b[31m\xff",
    ],
)  # fmt: skip
@pytest.mark.parametrize("value", [EVIL.encode() + b"\xff", b"\xc2\xb2", b"9" * 5000, b"-1", b"0" * 100_000])
def test_an_odd_variable_is_no_traceback(variable: str, value: bytes) -> None:
    """Whatever is in the environment, exec runs its command, or says in printable lines why not."""
    told = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "HWNUMA_GPUS": "none", variable: os.fsdecode(value)}
    done = hwnuma(["exec", "echo", "ran"], clean_environment() | told)
    said = done.stderr
    assert done.returncode in (0, 1, 2), said
    assert (done.stdout == "ran\n") == (done.returncode == 0)
    assert all(line.isprintable() for line in said.split("\n"))
    assert "Traceback" not in said
    assert len(said) < 3000


# ---- capture -------------------------------------------------------------------------------------------------


@pytest.mark.fault("disk", "the disk is full under hwnuma capture", "gives one line and the old file whole")
def test_capture_onto_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    """In a file system of 16 KiB of its own: the old file whole, one line, exit status 2, nothing beside."""
    require(can_unshare(), "this user may not make namespaces here (unshare)")
    script = (
        'mount -t tmpfs -o size=16k none "$1" && cd "$1" && shift && echo old >here.xml && head -c 8000 /dev/zero >rest\n'
        '"$@" capture here.xml; echo "$?"; ls -A; cat here.xml'
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "-", str(tmp_path), *HWNUMA],
        capture_output=True, text=True, check=False, env=clean_environment(), timeout=60,
    )  # fmt: skip
    assert done.stdout == "2\nhere.xml\nrest\nold\n", done.stderr
    assert done.stderr == "hwnuma capture: cannot write here.xml: No space left on device\n"


def test_capture_never_writes_through_a_link(tmp_path: Path) -> None:
    """It is refused, and what it names is untouched."""
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "here.xml").symlink_to("precious")
    done = sh('exec "$@"', "capture", str(tmp_path / "here.xml"))
    assert done.returncode == 2
    assert "it is a symbolic link, and none is followed" in done.stderr
    assert (tmp_path / "precious").read_text() == "precious"


# ---- a libhwloc that does not fit ----------------------------------------------------------------------------


@pytest.mark.fault(
    "library", "another libhwloc is loaded than was built against", "gives one line that says what to do"
)
@pytest.mark.parametrize("words", [("--version",), ("plan",), ("exec", "--gpus", "none", "--ranks", "1", "true")])
def test_a_libhwloc_that_does_not_fit_is_told_in_one_line(words: tuple[str, ...]) -> None:
    """By every way into the program: its sentence was inside a traceback."""
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'hwnuma.hwloc._hwloc':\n"
        "            raise ImportError('libhwloc.so.15: wrong ELF class')\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from hwnuma.cli.start import main\n"
        "sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True, text=True, check=False, env=clean_environment(), timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "hwnuma: hwnuma's extension module cannot be loaded (libhwloc.so.15: wrong ELF class)"
    )
    assert done.stderr.count("\n") == 1


def test_a_standard_output_that_is_a_programs_own_gets_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of text alone, without a file behind it; it cannot be pointed elsewhere either."""
    taken = io.StringIO()
    monkeypatch.setattr(sys, "stdout", taken)
    output.write("so\u2026\n")
    output.drop(taken)
    assert taken.getvalue() == "so\u2026\n"


def test_another_import_that_fails_is_a_defect_and_shows_where(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what libhwloc lacks is told in a line."""
    monkeypatch.setitem(sys.modules, "hwnuma.cli.main", None)
    with pytest.raises(ImportError, match=r"hwnuma\.cli\.main"):
        start.main(["plan"])


class Full(io.StringIO):
    """A standard error that keeps what is written until it is flushed, onto a full disk."""

    def flush(self) -> None:
        """It cannot."""
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_standard_error_that_cannot_be_flushed_changes_no_status(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """All that was to be done is done by then."""
    monkeypatch.setattr(sys, "stderr", Full())
    assert start.main(["--version"]) == 0
    assert capfd.readouterr().out.startswith("hwnuma ")


# ---- how far it is -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def a_terminal(**variables: str) -> Iterator[int]:
    """A pseudo-terminal of 40 columns as standard error for a block: where what is written to it can be read."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    stream = os.fdopen(side, "w")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stderr", stream)
            for name, value in {"TERM": "xterm", **variables}.items():
                patch.setenv(name, value)
            yield main
    finally:
        with contextlib.suppress(OSError):  # EIO: a test has closed the other end, and what was written is lost
            stream.close()


def _shown(terminal: int) -> list[str]:
    """What was drawn, one after the other, each over the one before: all until a mark that is written now."""
    print("\rnow", end="", file=sys.stderr, flush=True)
    written = ""
    while not written.endswith("\rnow"):  # the kernel hands it over when it comes to it
        written += os.read(terminal, 1 << 16).decode()
    return written.split("\r")[1:-1]


def test_a_bar_is_as_wide_as_the_terminal_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is drawn so seldom that it costs nothing."""
    with a_terminal() as terminal:
        monkeypatch.setattr("hwnuma.cli.progress._PAUSE", 0.0)
        with Progress(4, "files") as progress:
            progress.advance()
            progress.advance(2)
        assert _shown(terminal) == [
            f"[{'.' * 27}] 0/4 files", f"[{'#' * 6}{'.' * 21}] 1/4 files", f"[{'#' * 20}{'.' * 7}] 3/4 files", "\x1b[K",
        ]  # fmt: skip
        monkeypatch.setattr("hwnuma.cli.progress._PAUSE", 3600.0)
        with Progress(1000, "files") as progress:
            for _ in range(1000):
                progress.advance()
        assert len(_shown(terminal)) == 2
        os.close(terminal)


@pytest.mark.parametrize(("term", "total"), [("dumb", 4), ("xterm", 0)])
def test_where_a_bar_is_of_no_use_there_is_none(term: str, total: int) -> None:
    """A terminal that cannot go back in its line; and nothing to be done."""
    with a_terminal(TERM=term) as terminal:
        with Progress(total, "files") as progress:
            progress.advance()
        assert _shown(terminal) == []
        os.close(terminal)


def test_a_terminal_that_is_gone_ends_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The window was closed meanwhile, and whoever started it ignores SIGHUP: what is done matters."""
    monkeypatch.setattr("hwnuma.cli.progress._PAUSE", 0.0)
    with a_terminal() as terminal, Progress(4, "files") as progress:
        assert progress._is_shown
        os.close(terminal)
        progress.advance(4)
        assert not progress._is_shown


class Console(io.StringIO):
    """As a notebook has one: it says to be a terminal, and the kernel knows nothing of it."""

    def isatty(self) -> bool:
        """It is."""
        return True


def test_a_terminal_without_a_width_has_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """80 columns."""
    console = Console()
    monkeypatch.setattr(sys, "stderr", console)
    monkeypatch.setenv("TERM", "xterm")
    with Progress(4, "files"):
        pass
    assert console.getvalue() == f"\r[{'.' * 67}] 0/4 files\r\x1b[K"
