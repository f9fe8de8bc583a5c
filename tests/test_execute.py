"""What `hwnuma exec` leaves as it was: a command behind it finds what it would have found without."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from tests.namespaces import can_unshare, without_proc
from tests.processes import clean_environment
from tests.require import require

HWNUMA = (sys.executable, "-m", "hwnuma", "exec", "--cpus", "0", "--")

# The kernel's own account of a process: signals, umask and capabilities; limits; niceness, group, session and terminal;
# where it is; and its descriptors, each with what it points to and its flags. Only the CPUs are to differ, and what
# belongs to a moment: memory, times, process ids, counts.
ACCOUNT = r"""
grep -E '^(Name|Umask|State|Tgid|Uid|Gid|Groups|SigQ|SigBlk|SigIgn|ShdPnd|Cap|NoNewPrivs|Seccomp|Mems_allowed_list)' \
    /proc/self/status | grep -vE '^(State|Tgid|SigQ)'
cat /proc/self/limits /proc/self/oom_score_adj /proc/self/coredump_filter /proc/self/personality
cut -d ' ' -f 5-9,18,19,41 /proc/self/stat
readlink /proc/self/cwd /proc/self/root
for number in /proc/$$/fd/*; do
    echo "${number##*/} $(readlink "$number") $(grep flags "/proc/$$/fdinfo/${number##*/}")"
done
env -0 | sort -z | tr '\0' '\n' | grep -vE '^(HWNUMA_BOUND_|_=)'
"""


def account(
    before: Sequence[str], prepare: Callable[[], None], environment: Mapping[str, str], *descriptors: int
) -> list[str]:
    """What a shell finds of itself, line by line, when it is started with this state, behind these words."""
    done = subprocess.run(
        [*before, "/bin/sh", "-c", ACCOUNT],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False, timeout=60,
        env=environment, pass_fds=descriptors, preexec_fn=prepare, cwd="/",
    )  # fmt: skip
    # The shell reads its own standard output through another pipe each time.
    return [line for line in done.stdout.splitlines() if "pipe:" not in line]


def unusual() -> None:
    """Give a child what few have: blocked and ignored signals, a umask, niceness, limits, a score."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
    for ignored in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR2):
        signal.signal(ignored, signal.SIG_IGN)
    os.umask(0o027)
    os.nice(3)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    Path("/proc/self/oom_score_adj").write_text("500")


@pytest.mark.parametrize("prepare", [lambda: None, unusual], ids=["as tests run", "unusual"])
@pytest.mark.parametrize("locale", [{}, {"LC_CTYPE": "C.UTF-8"}, {"LC_ALL": "C"}], ids=["C", "chosen", "LC_ALL"])
def test_all_but_the_binding_is_as_inherited(
    prepare: Callable[[], None], locale: Mapping[str, str], tmp_path: Path
) -> None:
    """Signals, mask, umask, niceness, limits, descriptors, folder and environment are the same with and without."""
    kept = {name: value for name, value in clean_environment().items() if not name.startswith(("LC_", "LANG"))}
    with (tmp_path / "inherited").open("w") as file:
        flags = f"0{fcntl.fcntl(file, fcntl.F_GETFL):o}"  # that of large files has another number on Arm
        without = account((), prepare, kept | locale, file.fileno())
        behind = account(HWNUMA, prepare, kept | locale, file.fileno())
    assert len(without) > 30
    assert behind == without
    assert f"{file.name} flags:\t{flags}" in [line.partition(" ")[2] for line in without]


def test_without_proc_a_locale_stays() -> None:
    """Whether it was chosen or Python put it in cannot be known then: the command gets it, as by any other program."""
    require(can_unshare(), "this user may not make namespaces here (unshare)")
    chosen = clean_environment(LC_CTYPE="C.UTF-8")
    words = ("exec", "--gpus", "none", "--ranks", "1", "--local-rank", "0", "--", "printenv", "LC_CTYPE")
    done = subprocess.run(
        without_proc(sys.executable, "-m", "hwnuma", *words),
        capture_output=True, text=True, check=False, env=chosen, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "C.UTF-8\n"), done.stderr


def test_closed_descriptors_stay_closed() -> None:
    """Nothing of hwnuma's takes the place of a standard input that the command was to be without."""
    script = "import os; print(os.path.exists('/proc/self/fd/0'))"
    # Without what measures coverage, which opens files ahead of all else.
    unmeasured = {name: value for name, value in clean_environment().items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" <&-', "-", *HWNUMA, sys.executable, "-S", "-c", script],
        capture_output=True, text=True, check=True, env=unmeasured, timeout=60,
    )  # fmt: skip
    assert done.stdout == "False\n"


@pytest.mark.fault("pipe", "the reader of the command that exec starts leaves", "gives it SIGPIPE, as without hwnuma")
def test_a_command_whose_reader_leaves_ends_by_sigpipe() -> None:
    """`yes | head -1`: it is killed (a shell's 141), with no word of a broken pipe."""
    done = subprocess.run(
        ["bash", "-c", '"$@" yes | head -1; echo "${PIPESTATUS[0]}"', "-", *HWNUMA],
        capture_output=True, text=True, check=True, env=clean_environment(), timeout=60,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("y\n141\n", "")


@pytest.mark.fault(
    "signal", "the command that exec starts writes too large a file", "gives it SIGXFSZ, as without hwnuma"
)
def test_a_command_that_writes_too_large_a_file_ends_by_sigxfsz(tmp_path: Path) -> None:
    """With a limit on the size of files, the kernel's signal reaches the command."""
    done = subprocess.run(
        [*HWNUMA, "dd", "if=/dev/zero", f"of={tmp_path / 'file'}", "bs=4096", "count=2"],
        capture_output=True, check=False, env=clean_environment(), timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )  # fmt: skip
    assert done.returncode == -signal.SIGXFSZ


@pytest.mark.fault("disk", "the kernel cannot run the command (ENOEXEC)", "gives exit status 126")
def test_a_command_that_the_kernel_cannot_run_leaves_the_signals_ignored(tmp_path: Path) -> None:
    """A file of no program's format: the exit status is 126 with one line, and hwnuma goes on as a Python process."""
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"\0\1\2\3")
    wrong.chmod(0o755)
    done = subprocess.run(
        [*HWNUMA, str(wrong)], capture_output=True, text=True, check=False, env=clean_environment(), timeout=60
    )
    assert (done.returncode, done.stderr) == (126, f"hwnuma exec: {wrong}: Exec format error\n")
    code = (
        "import signal; from hwnuma.launch.execute import become\n"
        f"try:\n    become({str(wrong)!r}, ['x'])\nexcept OSError:\n    print(signal.getsignal(signal.SIGPIPE).name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "SIG_IGN\n"
