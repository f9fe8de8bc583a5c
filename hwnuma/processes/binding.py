"""Apply a Binding to this process, to a thread or to another process; read back what the kernel did; undo it.

All or nothing: where anything fails, every thread that was moved is back where it was. Memory is reported apart from
CPUs, since a container may deny set_mempolicy and allow sched_setaffinity.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Iterable

from hwnuma.errors import BindingError, HwlocError
from hwnuma.hwloc.mempolicy import SavedPolicy, migrate_pages, restore_policy, save_policy
from hwnuma.hwloc.topology import Topology
from hwnuma.model.bitmap import CpuSet
from hwnuma.model.options import MemoryPolicy
from hwnuma.model.plan import Binding
from hwnuma.model.value import replace
from hwnuma.processes import procfs

logger = logging.getLogger("hwnuma")

# A node with less than this share of its memory to be had is nearly full: `bind` ends in an OOM kill there.
_NEARLY_FULL = 0.10

# Passes over the threads of a process that starts threads all the time; those inherit the binding anyway.
_MOST_PASSES, _QUIET_PASSES = 1000, 3


class Applied:
    """What `apply` did, enough of it to undo it.

    Attributes:
        binding: what was bound to; with `memory_error` if the memory policy could not be set and may be missing.
        pid: the process.
        moved: the former affinity of each thread that was moved.
        kept: the threads that somebody had pinned and that were left alone.
        pages_before: where memory was ahead of binding; None if it was not looked at or cannot be.
        pages_after: where it was after migrating; None if nothing was migrated.
        warnings: what somebody should know, a sentence each.
    """

    def __init__(self, binding: Binding, pid: int) -> None:
        self.binding, self.pid = binding, pid
        self.moved: dict[int, CpuSet] = {}
        self.kept: dict[int, CpuSet] = {}
        self.pages_before: procfs.Pages | None = None
        self.pages_after: procfs.Pages | None = None
        self.warnings: tuple[str, ...] = ()
        self._there_already: set[int] = set()
        self._policy: tuple[int, SavedPolicy] | None = None

    @property
    def memory_error(self) -> BindingError | None:
        """Why the memory policy is not set though the CPUs are bound, or None."""
        return self.binding.memory_error

    def undo(self, topology: Topology) -> None:
        """Put every thread back where it was, each to its own former affinity, and the memory policy too.

        A thread that was started since follows the one that bound. A thread that somebody has pinned since stays.
        Memory that was migrated stays. The memory policy is put back if the thread that bound calls this.
        """
        if self._policy is not None and self._policy[0] == threading.get_native_id():
            restore_policy(self._policy[1])
            self._policy = None
        first = next(iter(self.moved.values()), None)
        for _ in range(_QUIET_PASSES):
            restored = [thread for thread in _threads(self.pid) if self._restore(topology, thread, first)]
            if not restored:
                return

    def _restore(self, topology: Topology, thread: int, first: CpuSet | None) -> bool:
        former = self.moved.get(thread, None if thread in self._there_already else first)
        if former is None or _affinity(topology, thread) != self.binding.cpuset or former == self.binding.cpuset:
            return False
        try:
            topology.set_thread_cpubind(former, thread)
        except HwlocError as error:
            if error.errno != errno.ESRCH:
                logger.warning("thread %d could not be put back to CPUs %s: %s", thread, former, error.strerror)
            return False
        return True


def apply(
    topology: Topology,
    binding: Binding,
    *,
    pid: int | None = None,
    all_threads: bool = False,
    migrate: bool = False,
    look_at_pages: bool = True,
) -> Applied:
    """Bind a process, and check that the kernel did just that.

    Every thread whose affinity is that of the calling thread (of another process: its main thread) follows it; one that
    somebody has pinned stays, as under torch (torch/numa/binding.py). Threads that start meanwhile are caught: it goes
    on until there is nothing left to move.

    Args:
        topology: this system's.
        binding: what to bind to.
        pid: another process, all its threads; None is this one. Linux lets no process set another's memory policy.
        all_threads: move pinned threads too.
        migrate: move memory that is already allocated on other nodes to the binding's nodes.
        look_at_pages: say how much memory was on other nodes; of no interest just ahead of an exec.

    Returns:
        What was done. If the policy is `preferred` or `interleave` and could not be set, the reason is a warning and in
        `memory_error`, and the CPUs are bound all the same.

    Raises:
        HwnumaError: the binding carries an error.
        NotThisSystemError: the topology is another machine's.
        BindingError: the kernel refused, or did something else, or a `bind` memory policy could not be set; then all is
            as it was before. errno EPERM: another user's process; ESRCH: there is no such process.
    """
    binding.check()
    process = os.getpid() if pid is None else pid
    applied = Applied(binding, process)
    leader = threading.get_native_id() if process == os.getpid() else process
    try:
        _bind_threads(topology, applied, leader, all_threads=all_threads)
        _apply_memory(topology, applied, migrate=migrate, look_at_pages=look_at_pages)
    except BaseException:
        applied.undo(topology)
        raise
    return applied


def bind_thread(topology: Topology, cpuset: CpuSet, thread: int = 0) -> CpuSet:
    """Bind one thread, of this or of another process, and check that the kernel did just that.

    Args:
        topology: this system's.
        cpuset: what to bind to.
        thread: the kernel's thread id (`threading.get_native_id`); 0 is the calling thread.

    Returns:
        The thread's former affinity.

    Raises:
        BindingError: the kernel refused or did something else; then all is as it was before.
    """
    thread = thread or threading.get_native_id()
    before = _affinity(topology, thread)
    if before is None:
        raise BindingError(errno.ESRCH, f"there is no thread {thread} to bind: it has ended, or is another machine's")
    _move(topology, thread, cpuset)
    found = _affinity(topology, thread)
    if found is not None and found != cpuset:
        topology.set_thread_cpubind(before, thread)
        raise BindingError(
            errno.EINVAL,
            f"binding to CPUs {cpuset} gave CPUs {found}: the kernel cuts an affinity to the CPUs that are online and "
            "in the cgroup, which are others than were planned with; plan again",
        )
    return before


# ---- CPUs ----------------------------------------------------------------------------------------------------


def _bind_threads(topology: Topology, applied: Applied, leader: int, *, all_threads: bool) -> None:
    """Bind the leading thread, and then those that had its affinity; again, until nothing is left to move."""
    cpuset = applied.binding.cpuset
    applied._there_already = {
        thread for thread in _threads(applied.pid) if thread != leader and _affinity(topology, thread) == cpuset
    }
    try:
        before = bind_thread(topology, cpuset, leader)
    except BindingError as error:
        raise _about_process(error, applied.pid, leader) from None
    applied.moved[leader] = before
    quiet = 0
    for _ in range(_MOST_PASSES):
        threads = _threads(applied.pid)
        new = set(threads) - applied.moved.keys() - applied.kept.keys() - applied._there_already
        moved = [thread for thread in threads if _follow(topology, applied, thread, before, all_threads=all_threads)]
        quiet = 0 if moved else quiet + 1
        if not moved and (not new or quiet == _QUIET_PASSES):
            return


def _follow(topology: Topology, applied: Applied, thread: int, before: CpuSet, *, all_threads: bool) -> bool:
    """Bind one thread if it is to follow the leading one; say whether it was moved."""
    cpuset = applied.binding.cpuset
    found = _affinity(topology, thread)
    if found is None or found == cpuset:
        return False
    if found != before and not all_threads:
        applied.kept[thread] = found
        return False
    try:
        _move(topology, thread, cpuset)
    except BindingError as error:
        if error.errno == errno.ESRCH:  # it has ended meanwhile
            return False
        raise
    applied.moved.setdefault(thread, found)
    return True


def _move(topology: Topology, thread: int, cpuset: CpuSet) -> None:
    try:
        if thread == threading.get_native_id():
            topology.set_cpubind(cpuset)
        else:
            topology.set_thread_cpubind(cpuset, thread)
    except HwlocError as error:
        raise BindingError(error.errno, f"{error.strerror}: {_remedy(error.errno)}") from None


def _remedy(code: int | None) -> str:
    if code == errno.ESRCH:
        return "it has ended meanwhile"
    if code == errno.EPERM:
        return (
            "only a process's own user, or root (CAP_SYS_NICE), may move it, and a container's seccomp profile may "
            "deny sched_setaffinity"
        )
    return (
        "the kernel refused it; see that these CPUs are online and in the cgroup's cpuset "
        "(/sys/fs/cgroup/…/cpuset.cpus.effective), and that the container allows sched_setaffinity"
    )


def _about_process(error: BindingError, pid: int, leader: int) -> BindingError:
    """Say of which process it is, where that is another one."""
    if pid == os.getpid():
        return error
    if error.errno == errno.ESRCH:
        return BindingError(errno.ESRCH, f"there is no process {pid} to bind: it has ended, or is in another container")
    user = procfs.owner(pid) if error.errno == errno.EPERM else None
    whose = f" of user {user}" if user not in (None, os.geteuid()) else ""
    return BindingError(error.errno, f"process {pid}{whose}, thread {leader}: {error.strerror}")


def _threads(pid: int) -> list[int]:
    try:
        return procfs.thread_ids(None if pid == os.getpid() else pid)
    except ProcessLookupError:
        return []


def _affinity(topology: Topology, thread: int) -> CpuSet | None:
    """A thread's affinity; None if it has ended."""
    try:
        return topology.get_thread_cpubind(thread)
    except HwlocError as error:
        if error.errno == errno.ESRCH:
            return None
        raise BindingError(error.errno, error.strerror) from None


def current_affinity(topology: Topology) -> CpuSet:
    """The CPUs that the calling thread may run on now.

    Where the topology cannot be bound through (a saved file that is not marked as this system), the kernel is asked.
    """
    return topology.get_thread_cpubind() if topology.is_this_system else CpuSet(os.sched_getaffinity(0))


# ---- memory --------------------------------------------------------------------------------------------------


def _apply_memory(topology: Topology, applied: Applied, *, migrate: bool, look_at_pages: bool) -> None:
    """Set the memory policy, if one is asked for, and migrate; what fails and may be missing is a warning."""
    binding = applied.binding
    own = applied.pid == os.getpid()
    if binding.memory is not MemoryPolicy.NONE:
        error = _set_policy(topology, applied) if own else _not_from_outside(binding, applied.pid)
        if error is not None and binding.memory is MemoryPolicy.BIND:
            raise error
        if error is not None:
            applied.binding = replace(binding, memory_error=error)
            applied.warnings += (
                f"CPUs {binding.cpuset} are bound, but the memory policy is not set: {error.strerror}",
            )
        elif binding.memory is MemoryPolicy.BIND:
            applied.warnings += tuple(nearly_full(filter(None, map(procfs.node_memory, binding.nodeset))))
    wanted = migrate or binding.memory is not MemoryPolicy.NONE
    if wanted and look_at_pages and binding.nodeset:
        applied.warnings += _other_threads(applied) if own and binding.memory is not MemoryPolicy.NONE else ()
        _look_at_pages(applied, migrate=migrate)


def _set_policy(topology: Topology, applied: Applied) -> BindingError | None:
    """Set the calling thread's policy and read it back; on an error the policy is as it was."""
    binding = applied.binding
    what = f"memory policy {binding.memory} on NUMA nodes {binding.nodeset or 'none'}"
    try:
        saved = save_policy()
        topology.set_membind(binding.nodeset, binding.memory)
        applied._policy = (threading.get_native_id(), saved)
        policies, found = topology.get_membind()
    except HwlocError as error:
        return BindingError(error.errno, f"{what}: {error.strerror}: {_memory_remedy(error.errno)}")
    if binding.memory in policies and found == binding.nodeset:
        return None
    if binding.memory is MemoryPolicy.PREFERRED and policies >= {binding.memory} and found and found <= binding.nodeset:
        # A preference for some of the nodes is one still.
        applied.warnings += (
            f"only NUMA nodes {found} of {binding.nodeset} are preferred: the cgroup allows {_allowed_text()}, and "
            "before Linux 5.15 only one can be preferred",
        )
        return None
    restore_policy(saved)
    applied._policy = None
    shown = " or ".join(sorted(map(str, policies)))
    return BindingError(
        errno.EINVAL,
        f"{what}: reading back gave {shown} on NUMA nodes {found or 'none'}: the kernel cuts it to the nodes that the "
        f"cgroup allows ({_allowed_text()}); ask the scheduler for memory there, or plan again",
    )


def _memory_remedy(code: int | None) -> str:
    if code in (errno.EPERM, errno.ENOSYS, errno.EACCES):
        return (
            "a seccomp profile or sandbox denies set_mempolicy: give the container CAP_SYS_NICE or a profile that "
            "allows it (Docker: --cap-add SYS_NICE); without a policy, pages still come from the node of the CPU that "
            "touches them"
        )
    return f"this process may have memory of NUMA nodes {_allowed_text()} (cpuset.mems), and one of them must be named"


def _allowed_text() -> str:
    allowed = procfs.allowed_nodes()
    return "unknown" if allowed is None else str(allowed)


def _not_from_outside(binding: Binding, pid: int) -> BindingError:
    return BindingError(
        errno.ENOSYS,
        f"memory policy {binding.memory} for process {pid}: Linux has no way to set another process's memory policy; "
        "start it with hwnuma exec, or move what it has allocated (migrate)",
    )


def nearly_full(nodes: Iterable[procfs.NodeMemory]) -> list[str]:
    """Say which of these nodes have little memory to be had, since a hard `bind` to them ends in an OOM kill."""
    return [
        f"NUMA node {memory.node} has {_size(memory.free)} free (and {_size(memory.reclaimable)} in file pages) of "
        f"{_size(memory.total)}: with memory policy bind the kernel kills the process when that is used up; preferred "
        "takes other nodes' memory then"
        for memory in nodes
        if memory.free + memory.reclaimable < _NEARLY_FULL * memory.total
    ]


def _other_threads(applied: Applied) -> tuple[str, ...]:
    others = len(_threads(applied.pid)) - 1
    if others <= 0:
        return ()
    return (
        f"{others} other threads that run already keep their own memory policy, since Linux sets one for the calling "
        "thread only: bind before they start, best with hwnuma exec",
    )


def _look_at_pages(applied: Applied, *, migrate: bool) -> None:
    """Count the memory on other nodes, and move it if that is asked for."""
    nodeset, pid = applied.binding.nodeset, applied.pid
    applied.pages_before = before = _pages(pid)
    remote = None if before is None else before.own_outside(nodeset)
    if before is None:
        applied.warnings += ("where memory is cannot be seen: there is no readable /proc/…/numa_maps here",)
    if not migrate:
        if before is not None and remote:
            applied.warnings += (
                f"{_share(remote, before)} is on other NUMA nodes than {nodeset} and stays there: bind before it is "
                "allocated (hwnuma exec), or migrate it (migrate=True)",
            )
        return
    source = procfs.online_nodes() - nodeset
    if not source or remote == 0:
        return
    try:
        stayed = migrate_pages(source, nodeset, 0 if pid == os.getpid() else pid)
    except HwlocError as error:
        applied.warnings += (f"memory on other NUMA nodes was not migrated: {error.strerror}",)
        return
    applied.pages_after = after = _pages(pid)
    if before is not None and after is not None and remote is not None:
        logger.info(
            "migrated: %s was on other nodes, %s still is", _share(remote, before), _size(after.own_outside(nodeset))
        )
    if stayed:
        applied.warnings += (
            f"{stayed} pages could not be moved to NUMA nodes {nodeset} (pinned, or the nodes are full)",
        )


def _pages(pid: int) -> procfs.Pages | None:
    try:
        return procfs.pages(None if pid == os.getpid() else pid)
    except OSError:
        return None


def _share(part: int, pages: procfs.Pages) -> str:
    percent = round(100 * part / pages.own_total) if pages.own_total else 0
    number = part // os.sysconf("SC_PAGESIZE")
    return f"{_size(part)} ({percent} %, {number} pages) of the {_size(pages.own_total)} allocated"


def _size(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
