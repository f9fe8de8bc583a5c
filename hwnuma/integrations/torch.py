"""Bind the workers of torch's Python API: elastic_launch, and torch.multiprocessing's spawn and start_processes.

Under any start method (spawn, fork, forkserver), and anew at every restart. The worker has imported torch by then, so
threads that torch started stay as many as they were; ``hwnuma exec`` binds before that. Nothing here imports torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import ParamSpec, TypeVar

from hwnuma.environment.omp import OmpVariables, omp_environment
from hwnuma.launch import bound
from hwnuma.launch.bind import bind, bind_job
from hwnuma.launch.job import Job
from hwnuma.launch.place import cores_of
from hwnuma.launch.told import Told
from hwnuma.model.gpu import Gpu
from hwnuma.model.numbers import is_number
from hwnuma.model.options import NumaOptions
from hwnuma.model.plan import Binding
from hwnuma.model.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hwnuma.model.forms import NumaOptionsLike

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def bind_and_call(
    function: Callable[_Parameters, _Result], *arguments: _Parameters.args, **keywords: _Parameters.kwargs
) -> _Result:
    """Bind this worker by its environment, then call a function: ``elastic_launch(config, bind_and_call)(train, 1)``.

    Args:
        function: what the worker shall do.
        arguments: for the function.
        keywords: for the function.

    Returns:
        What the function returns.

    Raises:
        HwnumaError: the rank cannot be placed or bound; the function was not called.
    """
    bind_by_environment()
    return function(*arguments, **keywords)


def bind_by_environment(local_rank: int | None = None, ranks: int | None = None) -> Binding:
    """Bind this process as ``hwnuma exec`` without options would: by the ``HWNUMA_…`` variables.

    To a place that a launcher handed out (``HWNUMA_CPUS``), nothing is planned. With ``HWNUMA_OMP``, OpenMP's variables
    are set for what this process starts, and a torch that is imported already is told the number of threads.

    Args:
        local_rank: instead of the launcher's variable.
        ranks: how many ranks run on this machine, instead of the launcher's variable.

    Raises:
        HwnumaError: the rank cannot be placed or bound; the process is as it was.
    """
    job, told = Job.asked({}, os.environ), Told.asked({}, os.environ)
    if ranks is not None:
        job = replace(job, ranks=ranks)
    if local_rank is not None:
        told = replace(told, local_rank=local_rank)
    binding = bind_job(job, told.local_rank, told.place(job.options.memory))
    if binding.error is None and told.omp is not OmpVariables.OFF:
        _set_threads(binding, told.omp)
    return binding


def _set_threads(binding: Binding, omp: OmpVariables) -> None:
    """Set OpenMP's variables, and the number of threads of a torch that has fixed it already."""
    os.environ.update(omp_environment(omp, cores_of(binding.cpuset), os.environ))
    torch = sys.modules.get("torch")
    number = os.environ.get("OMP_NUM_THREADS", "")
    if torch is not None and is_number(number):
        torch.set_num_threads(int(number))


class Bound(bound.Bound[_Parameters, _Result]):
    """A function that binds its process before it does anything: ``elastic_launch(config, Bound(train, "exclusive"))``.

    Picklable if the function is, so the function itself must be reachable by its name: write ``Bound(train)`` where it
    is handed over, not as a decorator.
    """

    def __init__(
        self,
        function: Callable[_Parameters, _Result],
        options: NumaOptionsLike | None = None,
        *,
        rank_is_first_argument: bool = False,
        ranks: int | None = None,
        gpus: str | Sequence[Gpu] = "auto",
        gpu_nodes: Mapping[str, int] | None = None,
    ) -> None:
        """Say what to call, and how to bind before.

        Args:
            function: what the worker shall do.
            options: NumaOptions (ours or torch's) or an affinity mode. None: by the ``HWNUMA_…`` variables, as
                `bind_by_environment`.
            rank_is_first_argument: take the local rank from the call's first argument, as torch.multiprocessing.spawn
                and start_processes pass it, instead of from the environment.
            ranks: how many ranks run on this machine; by default from the launcher's environment, or one a GPU.
            gpus: with options: as for `hwnuma.bind`.
            gpu_nodes: with options: as for `hwnuma.bind`.

        Raises:
            OptionError: the options make no sense.
        """
        bind_first: Callable[..., Binding] = bind_by_environment
        how: dict[str, object] = {"ranks": ranks}
        if options is not None:
            bind_first = bind
            how |= {"options": NumaOptions.of(options), "gpus": gpus, "gpu_nodes": dict(gpu_nodes or {})}
        super().__init__(function, bind_first, how, rank_is_first_argument=rank_is_first_argument)
