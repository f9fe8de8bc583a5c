"""``hwnuma bench --compare``: a user's own command in several modes, in turn and over again."""

from __future__ import annotations

from hwnuma.cli.exit_status import DONE, fail, status_of
from hwnuma.cli.interrupts import ClearedUpFirst
from hwnuma.cli.options import GPU_OPTIONS
from hwnuma.cli.output import complain, say, say_data
from hwnuma.cli.progress import Progress
from hwnuma.errors import GpuNotFoundError, JobError, OptionError, warn
from hwnuma.launch.job import Job, plan_job
from hwnuma.launch.place import machine_here
from hwnuma.measure.comparison import compare
from hwnuma.measure.jobs import NO_MODE, JobCommand
from hwnuma.model.characters import shown
from hwnuma.model.numbers import MOST_RANKS, whole_number
from hwnuma.model.options import AffinityMode
from hwnuma.model.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

# Of so many measurements, the interval of a median is from the least to the most, with 94 % confidence.
_ROUNDS, _MOST_ROUNDS = 5, 1000
_LEAST_MODES = 2

_WHERE = "hwnuma bench"


def add_compare_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hwnuma bench --compare``."""
    group = parser.add_argument_group("your own job")
    group.add_argument(
        "--compare",
        metavar="MODES",
        help="run the command after -- in each of these modes in turn, and tell its wall time, remote memory and "
        "threads outside: none,node,exclusive or all (none is unbound)",
    )
    group.add_argument(
        "--ranks",
        metavar="N",
        help="with --compare: how many times to start the command at once, each with its LOCAL_RANK (default: 1; a "
        "launcher starts them itself)",
    )
    group.add_argument(
        "--rounds", metavar="N", help=f"with --compare: how many times to run it in each mode (default: {_ROUNDS})"
    )


def is_asked_for(parsed: argparse.Namespace) -> bool:
    """Whether a command is to be compared, or something of that is said."""
    return any(getattr(parsed, name) is not None for name in ("compare", "ranks", "rounds", "job_words"))


def compare_command(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Run ``hwnuma bench --compare``."""
    if parsed.compare is None:
        raise OptionError("say in which modes to run the command: hwnuma bench --compare none,node -- COMMAND…")
    if parsed.output is not None:
        raise OptionError("--output draws the matrix of this machine's nodes, and --compare measures none")
    modes = _modes_of(parsed.compare)
    rounds = _ROUNDS if parsed.rounds is None else whole_number(parsed.rounds, "--rounds", 1, _MOST_ROUNDS)
    ranks = None if parsed.ranks is None else whole_number(parsed.ranks, "--ranks", 1, MOST_RANKS)
    command = JobCommand.of(parsed.job_words or (), ranks)
    said = {option.variable: vars(parsed)[option.name] for option in GPU_OPTIONS}
    told = _with_gpus({**environment, **{name: text for name, text in said.items() if text is not None}})
    _see_that_it_can_be_planned(modes, command.ranks, told)
    try:
        with ClearedUpFirst(), Progress(rounds * len(modes), "runs") as progress:
            found = compare(command, modes, rounds, told, progress.advance)
    except JobError as error:
        fail(_WHERE, error, status_of(error))
        for line in error.last_lines:
            complain(f"  {line}")
        return status_of(error)
    if parsed.format == "json":
        say_data(found.as_dict())
    else:
        say(str(found))
    return DONE


def _modes_of(text: str) -> list[str]:
    known = [NO_MODE, *(mode.value for mode in AffinityMode)]
    names = known if text == "all" else list(dict.fromkeys(name.strip() for name in text.split(",")))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise OptionError(f"--compare: {shown(unknown[0])} is none of {', '.join(known)}")
    if len(names) < _LEAST_MODES:
        raise OptionError("--compare: name two modes at least, such as none,node")
    return names


def _with_gpus(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which every rank finds the same GPUs: where the machine has none, ranks do without."""
    job = Job.asked({}, environment)
    machine, _ = machine_here(job.options)
    try:
        job.find_gpus(machine)
    except GpuNotFoundError:
        if job.gpus != "auto":
            raise
        warn("no GPUs are found here (see hwnuma gpus): ranks are placed without, as by HWNUMA_GPUS=none")
        return {**environment, "HWNUMA_GPUS": "none"}
    return dict(environment)


def _see_that_it_can_be_planned(modes: Sequence[str], ranks: int | None, environment: Mapping[str, str]) -> None:
    """Refuse what a rank would fail with, ahead of the first run.

    Raises:
        HwnumaError: in one of the modes, some rank has no place.
    """
    if ranks is None:  # the launcher knows
        return
    for mode in modes:
        if mode != NO_MODE:
            job = replace(Job.asked({"mode": mode}, environment), ranks=ranks)
            machine, _ = machine_here(job.options)
            errors = plan_job(machine, job).errors
            if errors:
                raise errors[0]
