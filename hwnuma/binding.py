"""Apply a Binding to this process, and read back what the kernel made of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from hwnuma.bitmap import CpuSet
from hwnuma.errors import BindingError, HwlocError
from hwnuma.placement import Binding
from hwnuma.topology import Topology

_TASKS = Path("/proc/self/task")


def apply(topology: Topology, binding: Binding, *, all_threads: bool = False) -> None:
    """Bind this process, and check that the kernel did just that.

    Every thread whose affinity is the calling thread's follows it; one that somebody has pinned stays, as under
    torch (torch/numa/binding.py). Threads that start meanwhile are caught: it goes on until it finds no new one.

    Args:
        topology: this system's.
        binding: what to bind to.
        all_threads: move pinned threads too.

    Raises:
        HwnumaError: the binding carries an error.
        NotThisSystemError: the topology is another machine's.
        BindingError: the kernel refused, or did something else; then all is as it was before.
    """
    binding.check()
    before = topology.get_thread_cpubind()
    _bind_calling_thread(topology, binding.cpuset)
    try:
        found = topology.get_thread_cpubind()
        if found != binding.cpuset:
            raise BindingError(
                errno.EINVAL,
                f"binding to CPUs {binding.cpuset} gave CPUs {found}: the kernel cuts an affinity to the cgroup's "
                "CPUs, which must have changed since the plan; plan again",
            )
        _bind_other_threads(topology, binding.cpuset, before, all_threads=all_threads)
    except BaseException:
        _bind_other_threads(topology, before, binding.cpuset, all_threads=False)
        _bind_calling_thread(topology, before)
        raise


def _bind_calling_thread(topology: Topology, cpuset: CpuSet) -> None:
    try:
        topology.set_cpubind(cpuset)
    except HwlocError as error:
        raise BindingError(
            error.errno,
            f"{error.strerror}: the kernel refused it; see that these CPUs are online and in the cgroup's cpuset "
            "(/sys/fs/cgroup/…/cpuset.cpus.effective), and that the container allows sched_setaffinity",
        ) from None


def _bind_other_threads(topology: Topology, cpuset: CpuSet, before: CpuSet, *, all_threads: bool) -> None:
    """Bind the threads that had the old affinity; again, until no thread is new."""
    seen: set[int] = set()
    while fresh := {int(task.name) for task in _TASKS.iterdir()} - seen:
        seen |= fresh
        for thread in fresh:
            _bind_thread(topology, thread, cpuset, before, all_threads=all_threads)


def _bind_thread(topology: Topology, thread: int, cpuset: CpuSet, before: CpuSet, *, all_threads: bool) -> None:
    try:
        found = topology.get_thread_cpubind(thread)
        if found != cpuset and (all_threads or found == before):
            topology.set_thread_cpubind(cpuset, thread)
    except HwlocError as error:
        if error.errno != errno.ESRCH:  # one that has ended meanwhile needs no binding
            raise BindingError(error.errno, error.strerror) from None


def current_affinity(topology: Topology) -> CpuSet:
    """The CPUs that the calling thread may run on now.

    Where the topology cannot be bound through (a saved file that is not marked as this system), the kernel is asked.
    """
    return topology.get_thread_cpubind() if topology.is_this_system else CpuSet(os.sched_getaffinity(0))
