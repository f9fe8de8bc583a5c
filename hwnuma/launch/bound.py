"""Bound for the length of a with block (`bound`), or before a function that a worker is started as (`Bound`)."""

from __future__ import annotations

from contextlib import contextmanager
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar

from hwnuma.errors import HwnumaError
from hwnuma.hwloc.topology import Topology
from hwnuma.launch.bind import logged, topology_for, unbound, with_nodes
from hwnuma.launch.job import Job
from hwnuma.launch.place import place
from hwnuma.model.bitmap import CpuSet
from hwnuma.model.options import AffinityMode, NumaOptions
from hwnuma.model.plan import Binding
from hwnuma.processes.binding import Applied
from hwnuma.processes.blocks import BLOCKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from hwnuma.model.forms import NumaOptionsLike
    from hwnuma.model.gpu import Gpu

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class Bound(Generic[_Parameters, _Result]):
    """A function that binds its process first. How, each integration's own Bound says.

    Picklable if the function is, so the function itself must be reachable by its name: write ``Bound(train)`` where it
    is handed over, not as a decorator. It has the function's name, documentation and signature: launchers log the name,
    torch insists on one, which a functools.partial lacks, and Ray Train looks whether the function takes an argument.

    Attributes:
        function: what the worker shall do.
    """

    def __init__(
        self,
        function: Callable[_Parameters, _Result],
        bind_first: Callable[..., Binding],
        how: Mapping[str, Any] | None = None,
        *,
        rank_is_first_argument: bool = False,
    ) -> None:
        """Say what to call, and how to bind before.

        Args:
            function: what the worker shall do.
            bind_first: binds the process; picklable if this is to be.
            how: its arguments. (A functools.partial of both would not compare equal to its own copy.)
            rank_is_first_argument: hand it the call's first argument as ``local_rank``.
        """
        self.function = function
        self._bind_first, self._how = bind_first, dict(how or {})
        self._rank_is_first_argument = rank_is_first_argument
        self._look_like_the_function()

    def __call__(self, *arguments: _Parameters.args, **keywords: _Parameters.kwargs) -> _Result:
        """Bind this process, then call the function.

        Raises:
            HwnumaError: the process cannot be placed or bound; the function was not called.
        """
        if self._rank_is_first_argument:
            self._bind_first(**self._how, local_rank=arguments[0])
        else:
            self._bind_first(**self._how)
        return self.function(*arguments, **keywords)

    def _look_like_the_function(self) -> None:
        update_wrapper(self, self.function, updated=())
        self.__name__: str = getattr(self.function, "__name__", type(self.function).__name__)
        self.__qualname__: str = getattr(self.function, "__qualname__", self.__name__)

    def __getstate__(self) -> dict[str, Any]:
        # A function pickles by its name; what update_wrapper has taken from it, such as annotations, may not.
        return {name: value for name, value in vars(self).items() if not name.startswith("__")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._look_like_the_function()


@contextmanager
def bound(
    to: Binding | CpuSet | NumaOptionsLike = AffinityMode.NODE,
    *,
    local_rank: int | None = None,
    ranks: int | None = None,
    gpus: str | Sequence[Gpu] = "auto",
) -> Iterator[Binding]:
    """Bind this process for the length of a with block, and then put every thread back where it was.

    ::

        with hwnuma.bound("node"):
            engine = make_engine()      # its threads and its memory are near the GPU

    At the end each thread that was moved gets its own former affinity, a thread that was started in the block gets that
    of the thread that entered it, and one that somebody has pinned meanwhile stays. The memory policy goes back too.

    Args:
        to: a Binding of a plan, CPUs, or options as `bind` takes them.
        local_rank: as for `bind`.
        ranks: as for `bind`.
        gpus: as for `bind`.

    Yields:
        What the process is bound to.

    Raises:
        HwnumaError: it cannot be placed or bound; the process is as it was.
    """
    if isinstance(to, CpuSet):
        to = Binding(local_rank or 0, cpuset=to)
    if isinstance(to, Binding):
        job, given = Job(NumaOptions(AffinityMode.NODE, memory=to.memory)), with_nodes(to)
    else:
        job, given = Job.here(to, gpus=gpus, ranks=ranks), None
    options, block, binding = job.options, None, None
    try:
        try:
            with topology_for(given, job) as topology:
                block = Applied(place(topology, job, local_rank) if given is None else given)
                BLOCKS.enter(topology, block, all_threads=options.all_threads, migrate=options.migrate)
            binding = logged(block).binding
        except HwnumaError as error:
            binding = unbound(job, local_rank, error)
        yield binding
    finally:
        interrupt = None
        while block is not None:  # in this frame: a call of to_the_end could be interrupted ahead of its first line
            try:
                with Topology.for_binding() as topology:
                    BLOCKS.leave(topology, block)
                block = None
            except KeyboardInterrupt as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt
