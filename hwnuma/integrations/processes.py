"""Plain Python: one plan for the worker processes of multiprocessing and concurrent.futures.

::

    from concurrent.futures import ProcessPoolExecutor
    from hwnuma.integrations.processes import PlacePool

    plan = hwnuma.plan_here("exclusive", ranks=4, gpus="none")
    with PlacePool(plan) as places, ProcessPoolExecutor(len(plan), initializer=places.take) as pool:
        ...

A ``multiprocessing.Process`` of known rank takes ``target=Bound(function, plan[rank])``, and a subprocess
``plan[rank].wrap(command)``, which binds before the command's first instruction.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, TypeVar

from hwnuma.errors import LocalRankError
from hwnuma.launch import bound
from hwnuma.launch.bind import bind_job
from hwnuma.launch.job import Job
from hwnuma.launch.place import plan_here
from hwnuma.model.options import AffinityMode, NumaOptions
from hwnuma.model.plan import Binding, Plan

__all__ = ["Bound", "PlacePool", "bind_to", "plan_here"]

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def bind_to(binding: Binding, options: NumaOptions | None = None) -> Binding:
    """Bind this process to a place that another process has planned.

    Args:
        binding: the place.
        options: how to bind (pinned threads, migration, fallback), as the plan had them.

    Returns:
        What the process is bound to now; an unbound place, if the options say that binding may fail.

    Raises:
        HwnumaError: the binding carries an error, or the kernel refuses it; the process is as it was.
    """
    job = Job(options or NumaOptions(AffinityMode.NODE, memory=binding.memory))
    return bind_job(job, binding.local_rank, binding)


class Bound(bound.Bound[_Parameters, _Result]):
    """A function that binds its process first. Picklable if the function is, so it suits every start method.

    Attributes:
        function: the worker's, such as the target of a ``multiprocessing.Process``.
        binding: the worker's place, such as ``plan[rank]``.
    """

    def __init__(self, function: Callable[_Parameters, _Result], binding: Binding) -> None:
        """Say what to call, and where.

        Raises:
            HwnumaError: the binding carries an error, which is told before a process is started for it.
        """
        self.binding: Binding = binding.check()
        super().__init__(function, bind_to, {"binding": binding})


# ---- pools ---------------------------------------------------------------------------------------------------

# Places that this process has taken: by file, which process took it and which place. The descriptors stay open for as
# long as the process lives, since closing one gives the lock up.
_taken: dict[str, tuple[int, int, Binding]] = {}


@dataclass(eq=False)
class PlacePool:
    """The places of a plan, each for one living process at a time.

    A pool's workers have no rank, and a worker that ends is replaced. Each takes a free place; the kernel frees it when
    the process ends, however it ends. Picklable: give `take` to a pool as its initializer.

    Attributes:
        plan: the places. A rank that cannot be placed runs unbound if its options say so.
        path: a file of which byte N is locked by the process that has place N; made by default, and removed by `close`.
    """

    plan: Plan
    path: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        """Refuse a plan with a rank that has no place, and make the file."""
        for binding in self.plan:
            if not self.plan.options.should_fall_back_if_binding_fails:
                binding.check()
        if not self.path:
            descriptor, self.path = tempfile.mkstemp(prefix="hwnuma-places-")
            os.close(descriptor)
            self._remover = weakref.finalize(self, _remove, self.path, os.getpid())

    def __reduce__(self) -> tuple[type[PlacePool], tuple[Plan, str]]:
        """Pickle to one that shares the file, and leaves its removal to this one."""
        return type(self), (self.plan, self.path)

    def take(self) -> Binding:
        """Take a free place for this process, and bind to it. A second call changes nothing.

        Raises:
            LocalRankError: more processes than places live at once.
            HwnumaError: the kernel refused the binding.
        """
        process, _, binding = _taken.get(self.path, (0, 0, None))
        if process == os.getpid() and binding is not None:
            return binding
        descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        for binding in self.plan:
            if _lock(descriptor, binding.local_rank):
                _taken[self.path] = os.getpid(), descriptor, binding
                return bind_to(binding, self.plan.options)
        os.close(descriptor)
        raise LocalRankError(
            f"all {len(self.plan)} places of the plan are taken by processes that live: plan for as many ranks as the "
            "pool has workers (ranks=N)"
        )

    def close(self) -> None:
        """Remove the file. Processes that have a place keep it; no new one can take any."""
        if hasattr(self, "_remover"):
            self._remover()

    def __enter__(self) -> PlacePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _remove(path: str, owner: int) -> None:
    """Remove the file in the process that made it: a forked child has a copy of the object."""
    if os.getpid() == owner:
        Path(path).unlink(missing_ok=True)


def _lock(descriptor: int, place: int) -> bool:
    """Lock one byte for this process alone, if nobody has it."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
    except (BlockingIOError, PermissionError):  # EAGAIN or EACCES (fcntl(2))
        return False
    return True
