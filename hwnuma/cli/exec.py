"""``hwnuma exec``: bind this process, then become the command.

It runs once a worker, so it imports no more than it needs: no argparse, no NVML where no GPU is asked for.
"""

from __future__ import annotations

import os

from hwnuma.cli.exit_status import NOT_EXECUTABLE, NOT_FOUND, fail, status_of
from hwnuma.cli.options import EXEC_OPTIONS, PLAN_OPTIONS, HelpWanted, check_variables, texts_of
from hwnuma.environment.omp import OmpVariables, omp_environment
from hwnuma.errors import HwnumaError, OptionError, inform, show_messages, warn
from hwnuma.launch.bind import bind_job
from hwnuma.launch.execute import become, resolve_command
from hwnuma.launch.job import Job
from hwnuma.launch.place import cores_of, place
from hwnuma.launch.told import Told
from hwnuma.model.characters import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hwnuma.hwloc.topology import Topology
    from hwnuma.model.bitmap import CpuSet
    from hwnuma.model.options import NicLibrary
    from hwnuma.model.plan import Binding

WHERE = "hwnuma exec"


def main(words: Sequence[str]) -> int:
    """Run ``hwnuma exec`` with these words.

    Returns:
        Only if the command cannot be run: the exit status. The reason is on standard error.
    """
    try:
        return _exec(words, os.environ)
    except HelpWanted:
        from hwnuma.cli.main import main as whole  # with argparse, which writes the help

        return whole(["exec", "--help"])
    except HwnumaError as error:
        return fail(WHERE, error, status_of(error))


def _exec(words: Sequence[str], environment: Mapping[str, str]) -> int:
    try:
        texts, command = texts_of(words, EXEC_OPTIONS)
    except OptionError as error:
        raise OptionError(f"{error} (see {WHERE} --help)") from None
    told = Told.asked(texts, environment)
    show_messages("hwnuma: ", printable, details=told.verbose)
    for sentence in check_variables(environment):
        warn(sentence)
    job = Job.asked(texts, environment)
    if not command:
        raise OptionError("no command is given: hwnuma exec [options] [--] COMMAND…")
    try:
        program = resolve_command(command)
    except (FileNotFoundError, PermissionError) as error:
        return fail(WHERE, error, NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE)
    if "cpus" in texts and "export_nics" in texts:
        warn("--export-nics does nothing with --cpus: NICs are given to the GPUs of a plan, and nothing is planned")
    if "cpus" not in texts and told.cpus is not None:
        _warn_of_options_without_use(texts, told)
    cores: list[CpuSet] = []
    given = told.place(job.options.memory) or (None if told.omp is OmpVariables.OFF else _planner(job, told, cores))
    binding = bind_job(job, told.local_rank, given, will_exec=True)
    made = _command_environment(binding, told.omp, cores, job.options.export_nics, environment)
    if told.verbose and binding.error is None:
        _say_what_defeats(binding, made)
    try:
        become(program, command, made)
    except OSError as error:
        return fail(f"{WHERE}: {command[0]}", error, NOT_EXECUTABLE)


def _say_what_defeats(binding: Binding, made: Mapping[str, str]) -> None:
    from hwnuma.processes.defeaters import line_of_binding  # only here: a rank's start does not pay for it

    line = line_of_binding(binding, made)
    if line:
        inform(line)


def _warn_of_options_without_use(texts: Mapping[str, str], told: Told) -> None:
    """Say that a place from the environment, as a launcher's plug-in hands it out, leaves nothing to plan here."""
    still_used = ("--memory", "--fallback")
    given = [option.flag for option in PLAN_OPTIONS if option.name in texts and option.flag not in still_used]
    if given:
        warn(
            f"HWNUMA_CPUS={told.cpus} is this rank's place, as it was planned already: {', '.join(given)} on the "
            "command line does nothing"
        )


def _planner(job: Job, told: Told, cores: list[CpuSet]) -> Callable[[Topology], Binding]:
    """Plan as `bind_job` does by itself, and note the place's cores, while the topology is at hand."""

    def planned(topology: Topology) -> Binding:
        binding = place(topology, job, told.local_rank)
        cores.extend(core.cpuset for core in topology.machine().cores_within(binding.cpuset))
        return binding

    return planned


def _command_environment(
    binding: Binding,
    omp: OmpVariables,
    cores: Sequence[CpuSet],
    export_nics: tuple[NicLibrary, ...],
    environment: Mapping[str, str],
) -> dict[str, str]:
    """The command's environment: what it is bound to, for `hwnuma verify`, and what else was asked for."""
    made = dict(environment)
    if binding.error is not None:
        return made
    if omp is not OmpVariables.OFF:
        made |= omp_environment(omp, cores or cores_of(binding.cpuset), environment)
    if export_nics and binding.nics is not None:
        from hwnuma.environment.nics import nic_environment  # only here: most commands have no use for NICs

        variables = nic_environment(export_nics, binding, environment)
        for note in variables.notes:
            warn(note)
        made |= variables.added
    return made | binding.record()
