"""Run a command on a Linux kernel with several NUMA nodes: in a QEMU guest, on this machine's files.

    python -m tests.vm.lab --machine two-socket-nps2 -- cat /sys/devices/system/node/node1/cpulist
    python -m tests.vm.lab --machine four-nodes --display 2 -- 'grep -H . /sys/bus/pci/devices/*/numa_node'

One CMD alone is a line for the shell; CMD with ARGs is run as it is. It runs as root, in the folder and with
the environment of this call, and sees this machine's files; what it writes is gone afterwards, but for what
it puts into /run/hwnuma-vm/out, which --out brings back. The exit status is the command's: 125 where the
guest itself failed and 124 where it took longer than --timeout.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from . import acpi, qemu, qemu_arm
from .initramfs import initramfs
from .machines import MACHINES, Machine

__all__ = ["MACHINES", "Files", "GuestError", "GuestTimeoutError", "Machine", "Result", "missing", "run"]

_HERE = Path(__file__).resolve().parent
# As /usr/bin/timeout and /usr/bin/env have them.
_STATUS_TIMEOUT, _STATUS_GUEST_FAILED = 124, 125
_CONSOLE_LINES = 25
# How long new output may wait to be passed on, and the end of a guest to be seen. Seconds.
_POLL_INTERVAL = 0.05


@dataclass(frozen=True, slots=True)
class Files:
    """What guests of a processor start from and run in.

    Attributes:
        kernel: a Linux that QEMU starts.
        modules: the folder of its modules.
        busybox: a busybox that is linked statically.
        root: the folder that is the guest's root.
    """

    kernel: Path
    modules: Path
    busybox: Path
    root: Path


class GuestError(RuntimeError):
    """A guest did not get as far as the end of its command; the text ends with what its console said last."""


class GuestTimeoutError(GuestError):
    """A guest took longer than it may and was ended."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a command did in a guest.

    Attributes:
        stdout: all that it wrote there.
        stderr: all that it wrote there.
        status: its exit status, as a shell has it (a signal is 128 and its number).
        seconds: from the call to the end of the guest.
        boot_seconds: of these, until the command was started.
    """

    stdout: str
    stderr: str
    status: int
    seconds: float
    boot_seconds: float


def work_folder() -> Path:
    """Return the folder that `setup` keeps the kernel in; it may not exist."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("HWNUMA_VM_WORK") or Path(cache) / "hwnuma-vm")


def missing() -> str | None:
    """Return in words what is missing here to boot a guest, or None if nothing is."""
    lacking = [f"program {name}" for name in (qemu.PROGRAM, "busybox") if shutil.which(name) is None]
    if not (work_folder() / "vmlinux").is_file():
        lacking.append(f"kernel in {work_folder()}")
    return f"no {' and no '.join(lacking)}: run {_HERE / 'setup'} as root" if lacking else None


def run(  # noqa: PLR0913 -- each a choice of its own, by name
    machine: Machine,
    command: str | Sequence[str],
    *,
    files: Files | None = None,
    timeout: float = 300.0,
    out: Path | None = None,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    echo: bool = False,
) -> Result:
    """Boot a guest, run a command in it and wait for its end.

    Several calls may go on at once, in threads or processes.

    Args:
        machine: what the guest is to be; `dataclasses.replace` makes others of those in `MACHINES`.
        command: a line for ``/bin/sh``, or a program and its arguments.
        files: what a guest of another processor than this machine's is made of; if not given, `setup`'s kernel and this
            machine's own files.
        timeout: seconds for all of it. CPU-bound work takes 10 to 15 times as long inside.
        out: a folder, made if need be, that gets what the command leaves in ``/run/hwnuma-vm/out``.
        folder: the working folder; this process's if not given.
        environment: all of the command's environment; this process's if not given.
        echo: pass the command's output on to this process's own, as it comes, besides returning it.

    Raises:
        GuestTimeoutError: the guest took too long.
        GuestError: the guest could not be started or failed before the command ended.
    """
    with tempfile.TemporaryDirectory(prefix="hwnuma-vm-") as run_folder:
        guest = _Guest(machine, files or _own_files(), Path(run_folder))
        guest.prepare(command, folder or Path.cwd(), os.environ if environment is None else environment)
        guest.boot(timeout, echo=echo)
        result = guest.result()
        if out is not None:
            shutil.copytree(guest.exchange / "out", out, dirs_exist_ok=True)
    return result


def _own_files() -> Files:
    """Return what this machine has for guests.

    Raises:
        GuestError: something is missing.
    """
    lacking = missing()
    if lacking:
        raise GuestError(lacking)
    busybox = shutil.which("busybox")
    assert busybox is not None
    work = work_folder()
    return Files(kernel=work / "vmlinux", modules=work / "modules", busybox=Path(busybox), root=Path("/"))


class _Guest:
    """One run of one guest, in a folder of its own."""

    def __init__(self, machine: Machine, files: Files, folder: Path) -> None:
        self.machine = machine
        self._files = files
        self.exchange = folder / "exchange"
        self._console = folder / "console"
        self._log = folder / "qemu.log"
        self._madt = folder / "madt"
        self._initramfs = folder / "initramfs"
        self._started = self._ended = time.time()

    def prepare(self, command: str | Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        """Write what the guest boots from and what it takes its work from."""
        (self.exchange / "out").mkdir(parents=True)
        for name in ("stdout", "stderr"):
            (self.exchange / name).touch()
        settings = {
            "MACHINE": self.machine.name,
            "OFFLINE": " ".join(map(str, sorted(self.machine.offline))),
            "CPUSET_CPUS": self.machine.cpuset_cpus,
            "CPUSET_MEMS": self.machine.cpuset_mems,
        }
        _write_lines(self.exchange / "settings", [f"{name}={shlex.quote(text)}" for name, text in settings.items()])
        # A name that the shell cannot export (a function of bash's, say) does not come along.
        exports = [
            f"export {name}={shlex.quote(text)}"
            for name, text in environment.items()
            if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)
        ]
        line = command if isinstance(command, str) else f"exec {shlex.join(command)}"
        _write_lines(self.exchange / "command", [*exports, f"cd {shlex.quote(str(folder))} || exit 125", line])

        tables = acpi.tables(self.machine) if self._is_arm else {}
        image = initramfs(
            busybox=self._files.busybox, init=_HERE / "guest_init", modules=self._files.modules, tables=tables
        )
        self._initramfs.write_bytes(image)

    @property
    def _is_arm(self) -> bool:
        return self.machine.processor == "aarch64"

    def _qemu(self) -> Iterator[str]:
        """Yield QEMU's program for the machine and its arguments, but for the file systems."""
        kernel = self._files.kernel
        if self._is_arm:
            yield qemu_arm.PROGRAM
            yield from qemu_arm.arguments(self.machine, kernel=kernel, initramfs=self._initramfs, console=self._console)
        else:
            yield qemu.PROGRAM
            yield from qemu.arguments(
                self.machine, kernel=kernel, initramfs=self._initramfs, madt=self._madt, console=self._console
            )

    def boot(self, timeout: float, *, echo: bool) -> None:
        """Start the guest and wait until it is off; end it when the time is over."""
        command = [
            *self._qemu(),
            *qemu.shared_folder("files", self._files.root, readonly=True),
            *qemu.shared_folder("exchange", self.exchange, readonly=False),
        ]
        deadline = time.monotonic() + timeout
        with self._log.open("wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            with (self.exchange / "stdout").open() as output, (self.exchange / "stderr").open() as errors:
                while not _has_ended(process):
                    if time.monotonic() > deadline:
                        raise GuestTimeoutError(self._failure(f"did not end within {timeout:g} s"))
                    if echo:
                        _pass_on(output, sys.stdout)
                        _pass_on(errors, sys.stderr)
                if echo:
                    _pass_on(output, sys.stdout)
                    _pass_on(errors, sys.stderr)
        finally:
            process.kill()
            process.wait()
            self._ended = time.time()

    def result(self) -> Result:
        """Return what the command did.

        Raises:
            GuestError: the guest went off without telling its command's exit status.
        """
        status = self.exchange / "status"
        if not status.is_file():
            raise GuestError(self._failure("went off before its command ended"))
        return Result(
            stdout=self._read("stdout"),
            stderr=self._read("stderr"),
            status=int(status.read_text()),
            seconds=self._ended - self._started,
            boot_seconds=(self.exchange / "started").stat().st_mtime - self._started,
        )

    def _read(self, name: str) -> str:
        return (self.exchange / name).read_text(errors="replace")

    def _failure(self, what: str) -> str:
        """Return an error's text: what happened, and the last lines of whatever the guest said."""
        lines = [f"the guest {self.machine.name} {what}"]
        for path in (self._log, self.exchange / "stdout", self.exchange / "stderr", self._console):
            said = path.read_text(errors="replace").splitlines() if path.is_file() else []
            # Each line once: QEMU warns of the same for every CPU.
            lines += [f"{path.name}: {line}" for line in list(dict.fromkeys(said))[-_CONSOLE_LINES:]]
        return "\n".join(lines)


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("\n".join(lines) + "\n")


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Wait a moment for a process's end."""
    try:
        process.wait(_POLL_INTERVAL)
    except subprocess.TimeoutExpired:
        return False
    return True


def _pass_on(source: TextIO, sink: TextIO) -> None:
    sink.write(source.read())
    sink.flush()


def _parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    listing = "\n".join(f"  {name}: {machine.about}" for name, machine in MACHINES.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.vm.lab",
        description=__doc__,
        epilog=f"machines:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--machine", choices=MACHINES, required=True, help="what the guest is to be, see below")
    parser.add_argument(
        "--display",
        type=int,
        action="append",
        default=[],
        metavar="NODE",
        help="one more display, on this NUMA node (-1: on none)",
    )
    parser.add_argument("--memory", type=int, metavar="MIB", help="memory of each NUMA node")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to put what is left in /run/hwnuma-vm/out")
    parser.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS", help="default: 600")
    parser.add_argument("--times", action="store_true", help="say on stderr how long it took")
    parser.add_argument("command", nargs="+", metavar="CMD")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command in a guest from a shell, and return its exit status."""
    # An end by a signal is to end the guest too: SystemExit passes through the `finally`s.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = _parse_arguments(arguments)
    machine = MACHINES[options.machine]
    machine = replace(
        machine,
        displays=(*machine.displays, *options.display),
        memory=options.memory or machine.memory,
    )
    command = options.command[0] if len(options.command) == 1 else options.command
    try:
        result = run(machine, command, timeout=options.timeout, out=options.out, echo=True)
    except GuestError as error:
        print(error, file=sys.stderr)
        return _STATUS_TIMEOUT if isinstance(error, GuestTimeoutError) else _STATUS_GUEST_FAILED
    if options.times:
        print(f"up in {result.boot_seconds:.1f} s, {result.seconds:.1f} s in all", file=sys.stderr)
    return result.status


if __name__ == "__main__":
    sys.exit(main())
