"""What binding does to the letter: whom it moves, what it writes down, what it puts back, and what it says when it cannot."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hwnuma import Binding, BindingError, CpuSet, HwlocError, MemoryPolicy, OptionError, PlanError, Topology
from hwnuma.hwloc.mempolicy import save_policy
from hwnuma.processes import memory as of_memory
from hwnuma.processes import procfs
from hwnuma.processes.binding import LARGEST_CPU, Applied, apply, bind_thread, carry_out, check_cpus, current_affinity
from tests.affinity import BEFORE, FIRST, LAST, affinity
from tests.processes import waiting

pytestmark = pytest.mark.usefixtures("two_cpus_and_back")

NOWHERE = 4194303  # more than any kernel numbers threads to (PID_MAX_LIMIT less one)


@pytest.fixture(autouse=True)
def no_threads_but_the_tests_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs the tests may have threads in this process, as pytest-xdist has one: binding sees the tests' own alone."""
    listed = procfs.thread_ids
    others = {*listed()} - {threading.get_native_id()}
    monkeypatch.setattr(procfs, "thread_ids", lambda pid=None: [each for each in listed(pid) if each not in others])


@contextmanager
def thread_at(cpuset: CpuSet) -> Iterator[int]:
    """A thread on these CPUs that waits; gives its number."""
    ready, stop = threading.Event(), threading.Event()

    def wait() -> None:
        os.sched_setaffinity(0, cpuset)
        ready.set()
        stop.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    ready.wait()
    try:
        yield thread.native_id or 0
    finally:
        stop.set()
        thread.join()


class Watched:
    """A real topology of which some calls are done in another way; the real one is its first argument."""

    def __init__(self, topology: Topology, **instead: Callable[..., Any]) -> None:
        self._topology, self._instead = topology, instead

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._topology, name)
        if name not in self._instead:
            return real
        return lambda *arguments: self._instead[name](real, *arguments)


def refuses(code: int) -> Callable[..., Any]:
    """A call that fails as libhwloc's do."""

    def call(*_: Any) -> Any:
        raise HwlocError(code, os.strerror(code))

    return call


# ---- what is written down ------------------------------------------------------------------------------------


def test_the_record_of_a_binding() -> None:
    """Who was moved and from where, who was left alone, who was there already; complete at the end."""
    with thread_at(FIRST) as pinned, thread_at(LAST) as there, thread_at(BEFORE) as follower:
        own = threading.get_native_id()
        with Topology.for_binding(cpuset=LAST) as topology:
            applied = apply(topology, Binding(0, cpuset=LAST))
            assert (applied.pid, applied.is_own, applied.leader) == (os.getpid(), True, own)
            assert (applied.before, applied.complete) == (BEFORE, True)
            assert applied.moved == {own: BEFORE, follower: BEFORE}
            assert applied.kept == {pinned: FIRST}
            assert applied.there_already == {there}
            assert applied.handed_over == set()
            assert [applied.former(each) for each in (own, follower, pinned, there)] == [BEFORE, BEFORE, None, None]
            assert applied.former(NOWHERE) == BEFORE  # who came since follows the leader
            applied.undo(topology)
        assert [affinity(each) for each in (own, follower, pinned, there)] == [BEFORE, BEFORE, FIRST, LAST]


def test_a_thread_on_some_of_the_cpus_is_not_there_already() -> None:
    """Somebody had pinned it, so it is left alone as such."""
    os.sched_setaffinity(0, FIRST)
    with thread_at(LAST) as pinned, Topology.for_binding(cpuset=BEFORE) as topology:
        applied = apply(topology, Binding(0, cpuset=BEFORE))
        assert (applied.there_already, applied.kept) == (set(), {pinned: LAST})
        applied.undo(topology)


def test_the_record_of_another_processs_binding() -> None:
    """Whatever its number: its main thread leads, and the process is not this one."""
    for pid in (os.getppid(), os.getpid() + 1):
        applied = Applied(Binding(0, cpuset=LAST), pid)
        assert (applied.pid, applied.is_own, applied.leader, applied.complete) == (pid, False, pid, False)


def test_a_policy_that_could_not_be_set_is_in_the_record() -> None:
    """It is that of the binding."""
    error = BindingError(errno.EPERM, "denied")
    assert Applied(Binding(0, cpuset=LAST, memory_error=error)).memory_error is error
    assert Applied(Binding(0, cpuset=LAST)).memory_error is None


def test_threads_are_listed_no_more_when_all_are_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once to put back, and once to see that none came since."""
    with Topology.for_binding(cpuset=LAST) as topology:
        applied = apply(topology, Binding(0, cpuset=LAST))
        listings: list[None] = []

        def listed(_pid: int | None = None) -> list[int]:
            listings.append(None)
            return [threading.get_native_id()]

        monkeypatch.setattr(procfs, "thread_ids", listed)
        applied.undo(topology)
        assert (affinity(), len(listings)) == (BEFORE, 2)


def test_it_is_undone_once() -> None:
    """Whoever is bound anew since is not pulled back."""
    with Topology.for_binding(cpuset=LAST) as topology:
        applied = apply(topology, Binding(0, cpuset=LAST))
        applied.undo(topology)
        os.sched_setaffinity(0, LAST)
        applied.undo(topology)
    assert affinity() == LAST


def test_newcomers_are_left_where_they_are_on_request() -> None:
    """Only those that it moved itself are put back."""
    with Topology.for_binding(cpuset=LAST) as topology:
        applied = apply(topology, Binding(0, cpuset=LAST))
        with thread_at(LAST) as since:
            applied.undo(topology, newcomers=False)
            assert (affinity(), affinity(since)) == (BEFORE, LAST)


def test_where_threads_cannot_be_listed_any_more_those_that_were_moved_are_put_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a /proc since; nothing is raised."""

    def gone(_pid: int | None = None) -> list[int]:
        raise FileNotFoundError(errno.ENOENT, "no /proc")

    with thread_at(BEFORE) as follower, Topology.for_binding(cpuset=LAST) as topology:
        applied = apply(topology, Binding(0, cpuset=LAST))
        monkeypatch.setattr(procfs, "thread_ids", gone)
        applied.undo(topology)
        assert (affinity(), affinity(follower)) == (BEFORE, BEFORE)


def test_a_thread_that_somebody_moved_since_stays() -> None:
    """It is not where the binding put it, so it is somebody else's by now."""
    with thread_at(BEFORE) as follower, Topology.for_binding(cpuset=LAST) as topology:
        applied = apply(topology, Binding(0, cpuset=LAST))
        os.sched_setaffinity(follower, FIRST)
        applied.undo(topology)
        assert (affinity(), affinity(follower)) == (BEFORE, FIRST)


def test_a_thread_that_pins_itself_within_what_it_was_bound_to_stays() -> None:
    """Some of the CPUs are not the CPUs."""
    os.sched_setaffinity(0, FIRST)
    with Topology.for_binding(cpuset=BEFORE) as topology:
        applied = apply(topology, Binding(0, cpuset=BEFORE))
        os.sched_setaffinity(0, LAST)
        applied.undo(topology)
    assert affinity() == LAST


def test_a_thread_that_is_given_more_than_it_was_bound_to_stays() -> None:
    """Nor are they, with others."""
    os.sched_setaffinity(0, FIRST)
    with Topology.for_binding(cpuset=LAST) as topology:
        applied = apply(topology, Binding(0, cpuset=LAST))
        os.sched_setaffinity(0, BEFORE)
        applied.undo(topology)
    assert affinity() == BEFORE


def test_another_process_is_put_back() -> None:
    """Its threads are listed for that, and not this one's."""
    with waiting("sh", "-c", "echo ready; read line") as process, Topology.for_binding(cpuset=LAST) as topology:
        applied = apply(topology, Binding(0, cpuset=LAST), pid=process.pid)
        assert (affinity(process.pid), affinity()) == (LAST, BEFORE)
        assert (applied.moved, applied.before) == ({process.pid: BEFORE}, BEFORE)
        applied.undo(topology)
        assert (affinity(process.pid), affinity()) == (BEFORE, BEFORE)


@pytest.mark.parametrize(
    ("memory", "options", "expected"),
    [
        (MemoryPolicy.NONE, {}, []),
        (MemoryPolicy.NONE, {"will_exec": True}, []),
        (MemoryPolicy.NONE, {"migrate": True}, [{"migrate": True, "look_at_pages": True}]),
        (MemoryPolicy.PREFERRED, {}, [{"migrate": False, "look_at_pages": True}]),
        (MemoryPolicy.BIND, {"will_exec": True}, [{"migrate": False, "look_at_pages": False}]),
    ],
)
def test_memory_is_looked_at_where_that_is_asked_for(
    memory: MemoryPolicy, options: dict[str, bool], expected: list[dict[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy or migration; pages are counted unless the process ends as the program that it is."""
    calls: list[dict[str, bool]] = []
    monkeypatch.setattr(of_memory, "apply_memory", lambda _topology, _applied, **how: calls.append(how))
    with Topology.for_binding(cpuset=LAST) as topology:
        apply(topology, Binding(0, cpuset=LAST, memory=memory), **options).undo(topology)
    assert calls == expected


def test_threads_that_are_to_be_left_alone_are() -> None:
    """As if they were pinned, though they are where the leader is."""
    with thread_at(BEFORE) as other, Topology.for_binding(cpuset=LAST) as topology:
        applied = Applied(Binding(0, cpuset=LAST))
        carry_out(topology, applied, all_threads=False, migrate=False, left_alone={other})
        assert (affinity(), affinity(other), applied.kept) == (LAST, BEFORE, {other: BEFORE})
        applied.undo(topology)


def test_a_process_that_becomes_another_program_binds_one_thread() -> None:
    """The others end then; nor are they listed."""
    with thread_at(BEFORE) as other, Topology.for_binding(cpuset=LAST) as topology:
        applied = apply(topology, Binding(0, cpuset=LAST), will_exec=True)
        assert (affinity(), affinity(other)) == (LAST, BEFORE)
        assert applied.moved == {threading.get_native_id(): BEFORE}
        applied.undo(topology)
        assert affinity() == BEFORE


def test_a_binding_with_an_error_is_not_applied() -> None:
    """The error is raised ahead of anything else."""
    with Topology.for_binding(cpuset=LAST) as topology, pytest.raises(PlanError, match="no place"):
        apply(topology, Binding(0, cpuset=LAST, error=PlanError("no place")))
    assert affinity() == BEFORE


# ---- what one binding leaves to a later one ------------------------------------------------------------------


def records(first: CpuSet, second: CpuSet) -> tuple[Applied, Applied]:
    """Records of two bindings, of which nothing is written down yet but where their leader was."""
    earlier, later = Applied(Binding(0, cpuset=first)), Applied(Binding(0, cpuset=second))
    earlier.before = BEFORE
    later.leader, later.before = 10, FIRST
    return earlier, later


def test_a_thread_that_a_later_binding_took_over_is_put_where_the_earlier_one_would() -> None:
    """The leader too; the earlier binding leaves it alone from then on."""
    earlier, later = records(FIRST, LAST)
    earlier.moved = {9: LAST, 10: BEFORE, 11: LAST}
    later.moved = {12: FIRST, 10: FIRST, 9: FIRST, 11: FIRST}
    earlier.hand_over(later)
    assert later.moved == {12: BEFORE, 10: BEFORE, 9: LAST, 11: LAST}  # 12 was started in the earlier one
    assert later.before == BEFORE
    assert earlier.handed_over == {9, 10, 11, 12}
    assert earlier.former(11) is None


def test_a_thread_that_the_earlier_binding_had_not_put_there_is_the_later_ones_alone() -> None:
    """One that was pinned or there already, and one that somebody moved elsewhere between the two."""
    earlier, later = records(FIRST, LAST)
    earlier.kept, earlier.there_already = {10: FIRST}, {11}
    later.moved = {10: FIRST, 11: FIRST, 12: LAST}
    later.there_already = {13}
    earlier.hand_over(later)
    assert (later.moved, later.before) == ({10: FIRST, 11: FIRST, 12: LAST}, FIRST)
    assert earlier.handed_over == set()


def test_a_thread_that_was_there_already_since_the_earlier_binding_had_put_it_there() -> None:
    """Two bindings to the same CPUs: the later one has not moved it, and puts it back."""
    earlier, later = records(LAST, LAST)
    earlier.moved, later.there_already = {11: BEFORE}, {11}
    earlier.hand_over(later)
    assert (later.moved, later.before) == ({11: BEFORE}, FIRST)
    assert earlier.handed_over == {11}


@pytest.mark.parametrize(("thread", "goes_over"), [(9, False), (10, True), (11, False)])
def test_a_memory_policy_goes_over_within_its_thread(thread: int, goes_over: bool) -> None:
    """It is a thread's own, so the one of another thread stays where it is."""
    earlier, later = records(FIRST, LAST)
    former, bound = save_policy(), save_policy()
    earlier.policy, later.policy = (thread, former), (10, bound)
    earlier.hand_over(later)
    assert later.policy == (10, former if goes_over else bound)
    assert later.policy[1] is (former if goes_over else bound)
    assert earlier.policy == (None if goes_over else (thread, former))


def test_without_a_policy_of_both_none_goes_over() -> None:
    """A later binding that set none puts none back."""
    earlier, later = records(FIRST, LAST)
    earlier.policy = (10, save_policy())
    earlier.hand_over(later)
    assert (later.policy, earlier.policy is None) == (None, False)
    earlier, later = records(FIRST, LAST)
    later.policy = kept = (10, save_policy())
    earlier.hand_over(later)
    assert later.policy is kept


def test_a_forked_child_takes_nothing_over_of_its_parents_threads() -> None:
    """It has one thread, the one that forked, with the parent's memory policy."""
    applied = Applied(Binding(0, cpuset=LAST), NOWHERE)
    policy = save_policy()
    applied.moved, applied.kept = {1: BEFORE}, {2: BEFORE}
    applied.there_already, applied.handed_over, applied.policy = {3}, {4}, (5, policy)
    applied._go_on_in_child()
    own = threading.get_native_id()
    assert (applied.pid, applied.leader) == (os.getpid(), own)
    assert [applied.moved, applied.kept, applied.there_already, applied.handed_over] == [{}, {}, set(), set()]
    assert applied.policy == (own, policy)


# ---- what the kernel does not do ---------------------------------------------------------------------------------


def test_one_thread_whose_cpus_the_kernel_cuts_is_put_back() -> None:
    """Both sets are told."""
    asked = LAST | CpuSet([LARGEST_CPU])
    with Topology.for_binding(cpuset=asked) as topology:
        with pytest.raises(BindingError, match=f"CPUs {asked} gave CPUs {LAST}: ") as caught:
            bind_thread(topology, asked)
        assert caught.value.errno == errno.EINVAL
    assert affinity() == BEFORE


def test_one_thread_of_ones_own_is_bound_without_its_number() -> None:
    """0 is the calling thread; the former affinity comes back."""
    with Topology.for_binding(cpuset=LAST) as topology:
        assert bind_thread(topology, LAST) == BEFORE
        assert affinity() == LAST


def test_a_thread_that_is_where_it_was_needs_no_putting_back() -> None:
    """The kernel refused at once: it is not moved a second time."""
    moves: list[CpuSet] = []

    def refuse(_real: object, cpuset: CpuSet, *_: int) -> None:
        moves.append(cpuset)
        raise HwlocError(errno.EINVAL, "refused")

    with Topology.for_binding(cpuset=LAST) as real:
        topology: Any = Watched(real, set_cpubind=refuse, set_thread_cpubind=refuse)
        with pytest.raises(BindingError) as caught:
            bind_thread(topology, LAST)
    assert moves == [LAST]
    assert str(caught.value.strerror).startswith("refused: the kernel refused it")  # of this process: no number


def test_another_process_that_may_not_be_moved_is_named() -> None:
    """With its number and the thread's."""
    with waiting("sh", "-c", "echo ready; read line") as process, Topology.for_binding(cpuset=LAST) as real:
        topology: Any = Watched(real, set_thread_cpubind=refuses(errno.EINVAL))
        with pytest.raises(BindingError) as caught:
            apply(topology, Binding(0, cpuset=LAST), pid=process.pid)
    assert str(caught.value.strerror).startswith(f"process {process.pid}, thread {process.pid}: ")


def test_a_thread_that_has_ended_meanwhile_is_none_of_those_that_were_moved() -> None:
    """Listed, read and gone: no error, and nothing is written down of it."""

    def gone_on(thread_gone: int) -> Callable[..., Any]:
        def move(real: Any, cpuset: CpuSet, thread: int = 0) -> None:
            if thread == thread_gone:
                raise HwlocError(errno.ESRCH, "no such thread")
            real(cpuset, thread)

        return move

    with thread_at(BEFORE) as other, Topology.for_binding(cpuset=LAST) as real:
        topology: Any = Watched(real, set_thread_cpubind=gone_on(other))
        applied = apply(topology, Binding(0, cpuset=LAST))
        assert applied.moved == {threading.get_native_id(): BEFORE}
        applied.undo(real)


@pytest.mark.parametrize("code", [errno.EPERM, errno.EINVAL])
def test_a_thread_that_may_not_be_moved_undoes_all(code: int) -> None:
    """What the kernel says of it comes out, and those that were moved are back."""

    def denied_for(denied: int) -> Callable[..., Any]:
        def move(real: Any, cpuset: CpuSet, thread: int = 0) -> None:
            if thread == denied:
                raise HwlocError(code, f"binding thread {thread}")
            real(cpuset, thread)

        return move

    with thread_at(BEFORE) as first, thread_at(BEFORE) as second, Topology.for_binding(cpuset=LAST) as real:
        topology: Any = Watched(real, set_thread_cpubind=denied_for(max(first, second)))
        with pytest.raises(BindingError, match=f"binding thread {max(first, second)}: ") as caught:
            apply(topology, Binding(0, cpuset=LAST))
        assert caught.value.errno == code
        assert [affinity(each) for each in (0, first, second)] == [BEFORE] * 3


def test_a_thread_that_may_not_be_moved_a_second_time_is_put_where_it_was_at_first() -> None:
    """It was moved, somebody moved it elsewhere, and then it is refused: what it had at first is not forgotten."""
    moves: list[int] = []

    def move(real: Any, cpuset: CpuSet, thread: int = 0) -> None:
        moves.append(thread)
        if moves == [pinned, pinned]:
            raise HwlocError(errno.EINVAL, "binding once more")
        real(cpuset, thread)
        if moves == [pinned]:
            os.sched_setaffinity(pinned, BEFORE)

    with thread_at(FIRST) as pinned, Topology.for_binding(cpuset=LAST) as real:
        topology: Any = Watched(real, set_thread_cpubind=move)
        with pytest.raises(BindingError, match="binding once more"):
            apply(topology, Binding(0, cpuset=LAST), all_threads=True)
        assert moves[:2] == [pinned, pinned]
        assert (affinity(), affinity(pinned)) == (BEFORE, FIRST)


def test_a_thread_that_is_always_listed_and_never_there_does_not_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once ahead of the first move, and three times that nothing was moved."""
    listings: list[None] = []

    def listed(_pid: int | None = None) -> list[int]:
        listings.append(None)
        return [threading.get_native_id(), NOWHERE]

    monkeypatch.setattr(procfs, "thread_ids", listed)
    with Topology.for_binding(cpuset=LAST) as topology:
        applied = apply(topology, Binding(0, cpuset=LAST))
        assert len(listings) == 4
        applied.undo(topology)


def test_a_thread_that_cannot_be_put_back_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """With its number, the CPUs and the kernel's reason; the others are put back all the same."""
    with thread_at(BEFORE) as other, Topology.for_binding(cpuset=LAST) as real:
        applied = apply(real, Binding(0, cpuset=LAST))
        topology: Any = Watched(real, set_thread_cpubind=refuses(errno.EPERM))
        applied.undo(topology)
        text = os.strerror(errno.EPERM)
        assert caplog.text.count(f"thread {other} could not be put back to CPUs {BEFORE}: {text}") == 1


def test_a_thread_that_has_ended_needs_no_putting_back(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is said of it."""
    with Topology.for_binding(cpuset=LAST) as real:
        applied = apply(real, Binding(0, cpuset=LAST))
        topology: Any = Watched(real, set_thread_cpubind=refuses(errno.ESRCH))
        applied.undo(topology)
    assert caplog.text == ""


@pytest.mark.parametrize("code", [errno.EPERM, errno.EIO])
def test_an_affinity_that_cannot_be_read_is_an_error_and_not_an_ended_thread(code: int) -> None:
    """Any other reason than that there is no such thread."""
    with Topology.for_binding(cpuset=LAST) as real:
        topology: Any = Watched(real, get_thread_cpubind=refuses(code))
        with pytest.raises(BindingError) as caught:
            bind_thread(topology, LAST)
    assert caught.value.errno == code


def test_a_process_whose_threads_are_not_shown_is_not_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there, and /proc does not list it: whoever else it has would be left where they are."""
    monkeypatch.setattr(procfs, "thread_ids", lambda _pid=None: [])
    with Topology.for_binding(cpuset=LAST) as topology, pytest.raises(BindingError, match="is not bound") as caught:
        apply(topology, Binding(0, cpuset=LAST))
    assert caught.value.errno == errno.ENOENT
    assert affinity() == BEFORE


@pytest.mark.parametrize("code", [errno.EACCES, errno.ENOENT, errno.EIO])
def test_a_process_whose_threads_cannot_be_read_is_not_bound(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the reason; none is moved."""

    def failing(_pid: int | None = None) -> list[int]:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(procfs, "thread_ids", failing)
    with Topology.for_binding(cpuset=LAST) as topology, pytest.raises(BindingError, match="is not bound") as caught:
        apply(topology, Binding(0, cpuset=LAST))
    assert caught.value.errno == code
    assert affinity() == BEFORE


def test_a_process_that_ends_meanwhile_is_bound_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no thread to list any more, and that is no error."""
    listings = [[threading.get_native_id()]]

    def listed(_pid: int | None = None) -> list[int]:
        if not listings:
            raise ProcessLookupError(errno.ESRCH, "no such process")
        return listings.pop()

    monkeypatch.setattr(procfs, "thread_ids", listed)
    with Topology.for_binding(cpuset=LAST) as topology:
        assert apply(topology, Binding(0, cpuset=LAST)).complete


def test_a_process_whose_main_thread_has_ended_is_not_there() -> None:
    """Its affinity cannot be read: no process to bind."""
    with Topology.for_binding(cpuset=LAST) as topology:
        with pytest.raises(BindingError, match=f"there is no process {NOWHERE} to bind") as caught:
            apply(topology, Binding(0, cpuset=LAST), pid=NOWHERE)
        assert caught.value.errno == errno.ESRCH
        with pytest.raises(BindingError, match=f"there is no process {NOWHERE} to bind"):
            apply(topology, Binding(0, cpuset=LAST), pid=NOWHERE, will_exec=True)


# ---- CPUs that are given, and those that are there ---------------------------------------------------------------


def test_the_last_cpu_that_linux_can_have_is_none_too_many() -> None:
    """8191 may be; 8192 is refused with both numbers."""
    last = CpuSet([0, 8191])
    assert check_cpus(last) is last
    assert check_cpus(CpuSet()) == CpuSet()
    with pytest.raises(OptionError, match="CPU 8192 is none that Linux can have: they are numbered from 0 to 8191"):
        check_cpus(CpuSet([0, 8192]))


def test_the_affinity_of_the_calling_thread_whatever_the_topology() -> None:
    """By libhwloc through this system's, and from the kernel where the topology is another machine's."""
    os.sched_setaffinity(0, LAST)
    with Topology.for_binding() as own, Topology.from_synthetic("pu:1") as another:
        assert (own.is_this_system, another.is_this_system) == (True, False)
        assert current_affinity(own) == current_affinity(another) == LAST


def test_an_affinity_that_the_kernel_does_not_tell_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than all CPUs, or none."""

    def denied(_thread: int) -> CpuSet:
        raise OSError(errno.EPERM, "denied")

    monkeypatch.setattr(procfs, "affinity", denied)
    with Topology.from_synthetic("pu:1") as another, pytest.raises(BindingError, match="a seccomp profile or sandbox"):
        current_affinity(another)
