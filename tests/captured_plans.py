"""The plans that are compared of a machine itself and of its capture: all modes by twenty sets of options.

    python -m tests.captured_plans < TASKS > PLANS

TASKS is a JSON list of `Task`s as objects, each of a machine that this process is to take for its own, or of a file;
PLANS has, for each of them, the JSON of each plan by its words, or the error. Of a machine itself the capture is saved,
too. One process asks about many machines, since it takes longer to start one than to plan a hundred times.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from hwnuma import CpuSet, Gpu, HwnumaError, Topology
from hwnuma.cli import which_machine
from hwnuma.cli.main import _parser
from hwnuma.cli.parsing import Parser
from hwnuma.devices.nvml import NvmlGpus
from hwnuma.errors import GpuError
from hwnuma.hwloc import copy_out
from hwnuma.launch import capture, system
from hwnuma.launch.job import plan_job
from hwnuma.model.value import replace

MODES = ("node", "socket", "exclusive", "core-complex")

OPTION_SETS: tuple[tuple[str, ...], ...] = (
    (),
    ("--memory", "bind"),
    ("--divide-among", "all"),
    ("--unknown-locality", "node0"),
    ("--fallback", "nearest"),
    ("--unknown-locality", "node0", "--fallback", "nearest,unbound", "--memory", "preferred"),
    ("--ranks-per-gpu", "2"),
    ("--ranks-per-gpu", "2", "--rank-order", "round-robin"),
    ("--gpus-per-rank", "2"),
    ("--threads-per-core", "1"),
    ("--reserve-cpus", "0,8"),
    ("--reserve-first-cores",),
    ("--reserve-isolated",),
    ("--use-idle-nodes",),
    ("--minimum-cores", "4"),
    ("--performance-cores",),
    ("--prefer", "fast-cores"),
    ("--outer-mask", "reset"),
    ("--nics", "auto"),
    ("--gpus", "none", "--ranks", "3", "--threads-per-core", "1"),
)  # fmt: skip


@dataclass
class Task:
    """What to plan for.

    Attributes:
        topology: a file to plan from; "" for this process's own machine.
        words: more of the command line, ahead of the sets of options.
        environment: this process's, beside what it has; what is None is not set.
        affinity: what this process may run on, as the kernel would tell it, in list form; "" to ask the kernel.
        isolated: the isolated CPUs, as sysfs would tell them.
        option_sets: by which to plan.
        save: where to save the machine itself.
        anonymous: save it anonymously too, beside that.
    """

    topology: str = ""
    words: Sequence[str] = ()
    environment: Mapping[str, str | None] = field(default_factory=dict)
    affinity: str = ""
    isolated: str = ""
    option_sets: Sequence[Sequence[str]] = OPTION_SETS
    save: str = ""
    anonymous: str = ""


def written(tasks: Sequence[Task]) -> str:
    """Give the tasks as this program reads them."""
    return json.dumps([asdict(task) for task in tasks])


def plans(
    words: Sequence[str] = (), option_sets: Sequence[Sequence[str]] = OPTION_SETS, modes: Sequence[str] = MODES
) -> dict[str, str]:
    """Plan by every set of options in every mode, as ``hwnuma plan --format json`` does.

    Args:
        words: which machine and GPUs.
        option_sets: the sets of options.
        modes: the modes.

    Returns:
        By the words that ask for it, each plan as JSON without its ``topology``, or what kind of error there is.
    """
    return {
        " ".join((*options, "--mode", mode)): _plan([*words, *options, "--mode", mode])
        for options in option_sets
        for mode in modes
    }


@cache
def _parser_of_plans() -> Parser:
    """The parser that ``hwnuma plan`` has, made once: that takes longer than a plan."""
    return _parser("plan")[0]


def _plan(words: Sequence[str]) -> str:
    parsed = _parser_of_plans().parse_args(["plan", *words, "--format", "json"])
    parsed.words = words
    try:
        job = which_machine.job_asked(parsed, os.environ)
        machine, job, warnings = which_machine.machine_asked(parsed, job, os.environ, network=job.options.wants_nics)
        made = plan_job(machine, job)
    except HwnumaError as error:
        return type(error).__name__  # its sentence may name the file
    data: dict[str, Any] = {**replace(made, warnings=(*warnings, *made.warnings)).as_dict()}
    del data["topology"]
    return json.dumps(data)  # keys in their order


@contextmanager
def _set(task: Task) -> Iterator[None]:
    """This process as the task has it: what the kernel would tell on the machine that HWLOC_XMLFILE has is told here."""
    former = dict(os.environ), Topology.get_thread_cpubind, copy_out._isolated_cpus
    for name, value in task.environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if task.affinity:
        Topology.get_thread_cpubind = lambda *_: CpuSet(task.affinity)
        copy_out._isolated_cpus = lambda: CpuSet(task.isolated)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(former[0])
        Topology.get_thread_cpubind, copy_out._isolated_cpus = former[1:]


@contextmanager
def loaded_once() -> Iterator[None]:
    """Load each topology and ask the driver once for a block, since a plan takes a hundredth of the time."""
    former = which_machine.load_this_system, which_machine._saved, Topology.close, NvmlGpus.gpus

    @cache
    def told() -> tuple[tuple[Gpu, ...], GpuError | None]:
        try:
            return former[3](NvmlGpus()), None
        except GpuError as error:
            return (), error

    def gpus(_: NvmlGpus) -> tuple[Gpu, ...]:
        found, error = told()
        if error is not None:
            raise error
        return found

    @cache
    def here(*, pci: bool, network: bool) -> Topology:
        return system.load_this_system(pci=pci, network=network)

    @cache
    def there(file: str, *, network: bool) -> Topology:
        return Topology.from_xml_file(file, network=network)

    which_machine.load_this_system = lambda *, pci, network, environment: here(pci=pci, network=network)  # noqa: ARG005
    which_machine._saved = lambda parsed, *, network, needs_cpus: there(parsed.topology, network=network)  # noqa: ARG005
    Topology.close, NvmlGpus.gpus = lambda _: None, gpus
    try:
        yield
    finally:
        which_machine.load_this_system, which_machine._saved, Topology.close, NvmlGpus.gpus = former


def answer(task: Task) -> dict[str, str]:
    """Save the machine if the task says so, and plan."""
    with _set(task), loaded_once():
        if task.save:
            capture.capture().save(task.save)
        if task.anonymous:
            capture.capture(anonymous=True).save(task.anonymous)
        return plans([*(["--topology", task.topology] if task.topology else []), *task.words], task.option_sets)


def main() -> None:
    """Print the plans of what is asked."""
    print(json.dumps([answer(Task(**given)) for given in json.load(sys.stdin)]))


if __name__ == "__main__":
    main()
