"""Apply a Binding to this process, to a thread or to another process; read back what the kernel did; undo it.

All or nothing: where anything fails, or an interrupt comes, every thread that was moved is back where it was. Memory
(`hwnuma.processes.memory`) is reported apart from CPUs, since a container may deny set_mempolicy and allow
sched_setaffinity.

`hwnuma exec` runs this once a worker: what only a memory policy or a failure needs is imported where it is needed.
"""

from __future__ import annotations

import errno
import os
from _thread import get_native_id  # threading costs more to import than all else here

from hwnuma.errors import BindingError, HwlocError, OptionError, warn
from hwnuma.model.bitmap import CpuSet
from hwnuma.model.options import MemoryPolicy
from hwnuma.processes import procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from hwnuma.hwloc.mempolicy import SavedPolicy
    from hwnuma.hwloc.topology import Topology
    from hwnuma.model.plan import Binding

# Passes over the threads of a process that starts threads all the time; those inherit the binding anyway.
_MOST_PASSES, _QUIET_PASSES = 1000, 3

# The highest CPU number of a Linux with MAXSMP (NR_CPUS 8,192, arch/x86/Kconfig); other kernels have fewer.
LARGEST_CPU = 8191


class Applied:
    """What `apply` did, enough of it to undo it.

    Attributes:
        binding: what was bound to; with `memory_error` if the memory policy could not be set and may be missing.
        pid: the process.
        leader: the thread whose affinity the others were compared with: the calling one, or the process's main one.
        before: the former affinity of the leader; None until it is moved.
        moved: the former affinity of each thread that was moved; written down ahead of the move.
        kept: the threads that somebody had pinned and that were left alone.
        there_already: the threads that were on just these CPUs before.
        handed_over: the threads that a later binding will put back.
        policy: the calling thread, and its former memory policy if it was changed.
        complete: whether all was done.
        pages_before: where memory was ahead of binding; None if it was not looked at or cannot be.
        pages_after: where it was after migrating; None if nothing was migrated.
        warnings: what somebody should know, a sentence each.
    """

    def __init__(self, binding: Binding, pid: int | None = None) -> None:
        self.binding: Binding = binding
        self.pid: int = os.getpid() if pid is None else pid
        self.is_own: bool = self.pid == os.getpid()
        self.leader: int = get_native_id() if self.is_own else self.pid
        self.before: CpuSet | None = None
        self.moved: dict[int, CpuSet] = {}
        self.kept: dict[int, CpuSet] = {}
        self.there_already: set[int] = set()
        self.handed_over: set[int] = set()
        self.policy: tuple[int, SavedPolicy] | None = None
        self.complete = False
        self.pages_before: procfs.Pages | None = None
        self.pages_after: procfs.Pages | None = None
        self.warnings: tuple[str, ...] = ()
        self._undone = False

    @property
    def memory_error(self) -> BindingError | None:
        """Why the memory policy is not set though the CPUs are bound, or None."""
        return self.binding.memory_error

    def former(self, thread: int) -> CpuSet | None:
        """Where undoing puts a thread that is on the bound CPUs now; None for one that was not put there by this.

        A thread that is not known was started since, and follows the leader.
        """
        if thread in self.kept or thread in self.handed_over:
            return None
        return self.moved.get(thread, None if thread in self.there_already else self.before)

    def undo(self, topology: Topology, *, newcomers: bool = True) -> None:
        """Put every thread back where it was, each to its own former affinity, and the memory policy too.

        A thread that was started since follows the one that bound. A thread that somebody has pinned since stays.
        Memory that was migrated stays. The memory policy is put back if the thread that bound calls this.

        Args:
            topology: this system's.
            newcomers: put back threads, too, that were started since.
        """
        if self._undone:
            return
        if self.is_own and self.pid != os.getpid():
            self._go_on_in_child()
        for _ in range(_QUIET_PASSES):
            if not [thread for thread in self._to_undo(newcomers=newcomers) if self._restore(topology, thread)]:
                break
        if self.policy is not None:
            from hwnuma.processes.memory import put_policy_back  # only now: most bindings have no policy

            put_policy_back(self)
        self._undone = True

    def hand_over(self, heir: Applied) -> None:
        """Leave threads that another binding has taken over since to that one: undoing it puts them where this would.

        Without it, undoing this would leave such a thread alone, and undoing the other one would put it on the CPUs of
        this, which nothing undoes any more.
        """
        for thread in [*heir.moved, *heir.there_already]:
            former = self.former(thread)
            if former is None or heir.moved.get(thread, heir.binding.cpuset) != self.binding.cpuset:
                continue
            if thread == heir.leader:
                heir.before = former
            heir.moved[thread] = former
            self.handed_over.add(thread)  # at last: after an interrupt all this is done once more
        if self.policy is not None and heir.policy is not None and self.policy[0] == heir.policy[0]:
            heir.policy, self.policy = self.policy, None

    def _go_on_in_child(self) -> None:
        """Turn to this process, a child that was forked since: the parent's threads are none of its business."""
        self.pid, self.leader = os.getpid(), get_native_id()
        self.moved, self.kept, self.there_already, self.handed_over = {}, {}, set(), set()
        if self.policy is not None:
            self.policy = (self.leader, self.policy[1])

    def _to_undo(self, *, newcomers: bool) -> Collection[int]:
        try:
            return procfs.thread_ids(None if self.is_own else self.pid) if newcomers else list(self.moved)
        except OSError:
            return list(self.moved)

    def _restore(self, topology: Topology, thread: int) -> bool:
        former, found = self.former(thread), _affinity(topology, thread)
        # Where it was not finished, a thread that it moved may be anywhere: the kernel may have cut the CPUs.
        is_there = found == self.binding.cpuset or (not self.complete and thread in self.moved)
        if former is None or found is None or found == former or not is_there:
            return False
        return _put(topology, thread, former)


def apply(
    topology: Topology,
    binding: Binding,
    *,
    pid: int | None = None,
    all_threads: bool = False,
    migrate: bool = False,
    will_exec: bool = False,
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
        will_exec: this process becomes another program at once. That ends all threads but the calling one, and frees
            all memory (execve(2)), so nothing but the calling thread is bound and looked at, and no /proc is needed.

    Returns:
        What was done. If the policy is `preferred` or `interleave` and could not be set, the reason is a warning and in
        `memory_error`, and the CPUs are bound all the same.

    Raises:
        HwnumaError: the binding carries an error.
        NotThisSystemError: the topology is another machine's.
        BindingError: the kernel refused, or did something else, or a `bind` memory policy could not be set; then all is
            as it was before. errno EPERM: another user's process; ESRCH: there is no such process; ENOENT: there is no
            /proc to list its threads in.
    """
    applied = Applied(binding, pid)
    carry_out(topology, applied, all_threads=all_threads, migrate=migrate, will_exec=will_exec)
    return applied


def carry_out(
    topology: Topology,
    applied: Applied,
    *,
    all_threads: bool,
    migrate: bool,
    will_exec: bool = False,
    left_alone: Collection[int] = (),
) -> None:
    """Do what `apply` does for whoever needs the record of it ahead of the first move.

    Args:
        topology: as for `apply`.
        applied: the record, as it was made.
        all_threads: as for `apply`.
        migrate: as for `apply`.
        will_exec: as for `apply`.
        left_alone: threads to leave where they are as if somebody had pinned them.

    Raises:
        HwnumaError: as `apply`.
    """
    binding = applied.binding.check()
    try:
        if will_exec:
            _bind_leader(topology, applied)
        else:
            _bind_threads(topology, applied, left_alone, all_threads=all_threads)
        if binding.memory is not MemoryPolicy.NONE or migrate:
            from hwnuma.processes.memory import apply_memory  # only now: most bindings have no policy

            apply_memory(topology, applied, migrate=migrate, look_at_pages=not will_exec)
        applied.complete = True
    except BaseException:
        to_the_end(lambda: applied.undo(topology))
        raise


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
    thread = thread or get_native_id()
    before = _affinity(topology, thread)
    if before is None:
        raise BindingError(errno.ESRCH, f"there is no thread {thread} to bind: it has ended, or is another machine's")
    try:
        _move_and_read_back(topology, thread, cpuset)
    except BaseException:
        if _affinity(topology, thread) != before:
            to_the_end(lambda: _put(topology, thread, before))
        raise
    return before


def to_the_end(action: Callable[[], object]) -> None:
    """Do what puts things back, whatever interrupts come: they are raised when it is done.

    Args:
        action: what to do; after an interrupt it is done once more, so it has to bear that.
    """
    interrupt: KeyboardInterrupt | None = None
    done = False
    while not done:
        try:
            action()
            done = True
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt


def check_cpus(cpuset: CpuSet) -> CpuSet:
    """Return CPUs that somebody gave, if there can be such; making a topology of a million of them takes hours.

    Raises:
        OptionError: no Linux has such CPUs.
    """
    if cpuset.last > LARGEST_CPU:
        raise OptionError(
            f"CPU {cpuset.last} is none that Linux can have: they are numbered from 0 to {LARGEST_CPU} at most"
        )
    return cpuset


# ---- CPUs ----------------------------------------------------------------------------------------------------


def _bind_leader(topology: Topology, applied: Applied) -> None:
    """Bind the leading thread and read it back."""
    thread = applied.leader
    before = _affinity(topology, thread)
    if before is None:
        from hwnuma.processes.refusals import no_such_process  # only now: this is a failure

        raise no_such_process(applied.pid)
    applied.before = applied.moved[thread] = before
    _move_and_read_back(topology, thread, applied.binding.cpuset, applied.pid)


def _bind_threads(topology: Topology, applied: Applied, left_alone: Collection[int], *, all_threads: bool) -> None:
    """Bind the leading thread, and then those that had its affinity; again, until nothing is left to move."""
    cpuset, leader = applied.binding.cpuset, applied.leader
    threads = _threads(applied)
    if leader not in threads and _affinity(topology, leader) is not None:
        from hwnuma.processes.refusals import threads_not_listed  # only now: this is a failure

        raise threads_not_listed(applied.pid)
    applied.there_already = {thread for thread in threads if thread != leader and _affinity(topology, thread) == cpuset}
    _bind_leader(topology, applied)
    quiet = 0
    for _ in range(_MOST_PASSES):
        threads = _threads(applied)
        new = set(threads) - applied.moved.keys() - applied.kept.keys() - applied.there_already
        moved = [
            thread for thread in threads if _follow(topology, applied, thread, left_alone, all_threads=all_threads)
        ]
        quiet = 0 if moved else quiet + 1
        if not moved and (not new or quiet == _QUIET_PASSES):
            return
    raise BindingError(
        errno.EAGAIN,
        f"process {applied.pid} cannot be bound to CPUs {cpuset}: some of its threads were elsewhere again each of "
        f"{_MOST_PASSES} times; something else binds them at the same time",
    )


def _follow(
    topology: Topology, applied: Applied, thread: int, left_alone: Collection[int], *, all_threads: bool
) -> bool:
    """Bind one thread if it is to follow the leading one; say whether it was moved."""
    cpuset = applied.binding.cpuset
    found = _affinity(topology, thread)
    if found is None or found == cpuset:
        return False
    if thread in left_alone or (found != applied.before and not all_threads):
        applied.kept[thread] = found
        return False
    is_new = thread not in applied.moved
    applied.moved.setdefault(thread, found)  # ahead of the move: an interrupt may come between the two
    applied.kept.pop(thread, None)
    try:
        _move(topology, thread, cpuset, applied.pid)
    except BindingError as error:
        if is_new:
            del applied.moved[thread]
        if error.errno == errno.ESRCH:  # it has ended meanwhile
            return False
        raise
    return True


def _move(topology: Topology, thread: int, cpuset: CpuSet, pid: int | None = None) -> None:
    try:
        if thread == get_native_id():
            topology.set_cpubind(cpuset)
        else:
            topology.set_thread_cpubind(cpuset, thread)
    except HwlocError as error:
        from hwnuma.processes.refusals import move_refused  # only now: this is a failure

        raise move_refused(error, thread, os.getpid() if pid is None else pid) from None


def _move_and_read_back(topology: Topology, thread: int, cpuset: CpuSet, pid: int | None = None) -> None:
    _move(topology, thread, cpuset, pid)
    found = _affinity(topology, thread)
    if found is not None and found != cpuset:
        raise BindingError(
            errno.EINVAL,
            f"binding to CPUs {cpuset} gave CPUs {found}: the kernel cuts an affinity to the CPUs that are online and "
            "in the cgroup, which are others than were planned with; plan again",
        )


def _put(topology: Topology, thread: int, cpuset: CpuSet) -> bool:
    """Put a thread back; say whether that was done. One that has ended needs none."""
    try:
        topology.set_thread_cpubind(cpuset, thread)
    except HwlocError as error:
        if error.errno != errno.ESRCH:
            warn(f"thread {thread} could not be put back to CPUs {cpuset}: {error.strerror}")
        return False
    return True


def _threads(applied: Applied) -> list[int]:
    """The threads of a process that is bound; none if it has ended.

    Raises:
        BindingError: they cannot be listed.
    """
    try:
        return procfs.thread_ids(None if applied.is_own else applied.pid)
    except ProcessLookupError:
        return []
    except OSError as error:
        from hwnuma.processes.refusals import threads_not_listed  # only now: this is a failure

        raise threads_not_listed(applied.pid, error) from None


def _affinity(topology: Topology, thread: int) -> CpuSet | None:
    """A thread's affinity; None if it has ended."""
    try:
        return topology.get_thread_cpubind(thread)
    except HwlocError as error:
        if error.errno == errno.ESRCH:
            return None
        from hwnuma.processes.refusals import affinity_not_read  # only now: this is a failure

        raise affinity_not_read(error, thread) from None


def current_affinity(topology: Topology) -> CpuSet:
    """The CPUs that the calling thread may run on now.

    Where the topology cannot be bound through (a saved file that is not marked as this system), the kernel is asked.

    Raises:
        BindingError: a sandbox denies sched_getaffinity.
    """
    thread = get_native_id()
    if topology.is_this_system:
        return _affinity(topology, thread) or CpuSet()
    try:
        return procfs.affinity(thread)
    except OSError as error:
        from hwnuma.processes.refusals import affinity_not_read  # only now: this is a failure

        raise affinity_not_read(error, thread) from None
