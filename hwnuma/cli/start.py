"""Where the programs ``hwnuma`` and ``python -m hwnuma`` begin: the quick ways first.

A launcher starts every rank through ``hwnuma exec``, so nothing is imported here that a rank does not need.
"""

from __future__ import annotations

import _signal  # what `signal` is made of: that makes enumerations first, in half a millisecond of each worker's start
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What hands a place over, as options and as variables; and the record that such a place leaves, which is written anew.
_HANDED_OVER = {"--cpus": "HWNUMA_CPUS", "--nodes": "HWNUMA_NODES", "--memory": "HWNUMA_MEMORY"}
_RECORD = ("HWNUMA_BOUND_CPUS", "HWNUMA_BOUND_NODES", "HWNUMA_BOUND_MEMORY")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; by default those of this process.

    Returns:
        The exit status; `exec` returns 126 or 127 for a command that cannot be run, and otherwise becomes it.
    """
    if arguments is None:
        end_on_interrupt()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(words)
    except ImportError as error:
        return _without_libhwloc(error)
    finally:
        _settle_standard_error()


def _run(words: list[str]) -> int:
    if words[:1] != ["exec"]:
        from hwnuma.cli.main import main as whole

        return whole(words)
    _become_at_handed_over_place(words[1:], os.environ)
    from hwnuma.cli import exec as exec_command

    return exec_command.main(words[1:])


def _settle_standard_error() -> None:
    """Let a standard error that takes nothing (a full disk) change nothing about the exit status."""
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except OSError:
        from hwnuma.cli.output import drop

        drop(sys.stderr)


def _without_libhwloc(error: ImportError) -> int:
    """Say in a line that libhwloc cannot be loaded or does not fit: it is met when modules are imported."""
    from hwnuma.cli.exit_status import fail, status_of
    from hwnuma.errors import HwlocVersionError

    if not isinstance(error, HwlocVersionError):
        raise error
    return fail("hwnuma", error, status_of(error))


def end_on_interrupt() -> None:
    """Let Ctrl-C end this process as it ends any other, from its imports on, and without a traceback.

    Where whoever started it has SIGINT ignored, as a shell has for what runs in the background, it stays ignored.
    """
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)


def _become_at_handed_over_place(words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Bind to a place that was planned already and become the command, with the extension module alone.

    Returns only where this way is not the one to go, or fails, with all as it was: the whole program then does the same
    with every option, and says what is wrong.
    """
    place, command = _place_and_command(words, environment)
    cpus, nodes, memory = place["--cpus"], place["--nodes"], place["--memory"] or "none"
    # bind: the whole program looks whether the nodes are nearly full. Without nodes, it finds those of the CPUs.
    if not cpus or not command or memory == "bind" or (memory != "none" and not nodes):
        return
    try:
        from hwnuma.hwloc.self_binding import bind_self
        from hwnuma.launch.execute import become, resolve_command

        program = resolve_command(command)
        if bind_self(cpus, nodes, memory):
            become(program, command, {**environment, **dict(zip(_RECORD, (cpus, nodes, memory), strict=True))})
    except (ImportError, OSError):
        return


def _place_and_command(words: Sequence[str], environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The texts of the three options and the command; no command if any other option or variable says anything."""
    place = {flag: environment.get(variable, "") for flag, variable in _HANDED_OVER.items()}
    for name in environment:
        if name.startswith("HWNUMA_") and name not in (*_HANDED_OVER.values(), *_RECORD) and environment[name]:
            return place, []
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "--":
        flag, equals, text = rest.pop(0).partition("=")
        if flag not in place or not (equals or rest):
            return place, []
        place[flag] = text if equals else rest.pop(0)
    return place, rest[1:] if rest[:1] == ["--"] else rest
