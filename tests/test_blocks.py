"""`bound` blocks within each other and in several threads at once: afterwards every thread is where it was."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Any

import pytest

import hwnuma
from hwnuma import Binding, CpuSet, MemoryPolicy, NodeSet
from hwnuma.hwloc.mempolicy import save_policy
from hwnuma.processes import procfs
from hwnuma.processes.blocks import BLOCKS
from tests.affinity import BEFORE, FIRST, LAST, affinity
from tests.processes import answer_of


@pytest.fixture(autouse=True)
def no_block_is_left(two_cpus_and_back: None) -> Iterator[None]:  # noqa: ARG001
    """Every test here leaves no block open."""
    yield
    left, BLOCKS._open[:] = list(BLOCKS._open), []
    assert left == []


class Worker:
    """A thread that does what it is told, one call at a time."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._answers: SimpleQueue[Any] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        self.tid = self.does(threading.get_native_id)
        self.stack = ExitStack()

    def _work(self) -> None:
        for call in iter(self._calls.get, None):
            self._answers.put(call())

    def does(self, call: Callable[[], Any]) -> Any:
        """Have the thread call something, and give its answer."""
        self._calls.put(call)
        return self._answers.get(timeout=60)

    def enters(self, to: CpuSet | Binding) -> None:
        """Have the thread enter a block."""
        self.does(lambda: self.stack.enter_context(hwnuma.bound(to)))

    def leaves(self) -> None:
        """Have the thread leave its innermost block."""
        self.does(self.stack.pop_all().close)

    def ends(self) -> None:
        """Let the thread end."""
        self._calls.put(None)
        self._thread.join(60)


@pytest.fixture
def workers() -> Iterator[tuple[Worker, Worker, Worker]]:
    """Give three threads: two that enter blocks, and one that only is there."""
    made = (Worker(), Worker(), Worker())
    yield made
    for worker in made:
        worker.ends()


def test_blocks_within_each_other_are_undone_one_by_one() -> None:
    """The inner one's end puts back what the outer one bound, and its end what was before."""
    with hwnuma.bound(LAST):
        with hwnuma.bound(BEFORE):
            assert affinity() == BEFORE
            with hwnuma.bound(FIRST):
                assert affinity() == FIRST
            assert affinity() == BEFORE
        assert affinity() == LAST
    assert affinity() == BEFORE


@pytest.mark.parametrize("second", [FIRST, LAST], ids=["other CPUs", "the same CPUs"])
def test_blocks_of_one_thread_may_end_in_any_order(second: CpuSet, workers: tuple[Worker, Worker, Worker]) -> None:
    """As those of two asyncio tasks do: the one that was entered last decides until it ends."""
    idle = workers[2].tid
    one, two = hwnuma.bound(LAST), hwnuma.bound(second)
    one.__enter__()
    two.__enter__()
    assert (affinity(), affinity(idle)) == (second, second)
    one.__exit__(None, None, None)
    assert (affinity(), affinity(idle)) == (second, second)
    two.__exit__(None, None, None)
    assert (affinity(), affinity(idle)) == (BEFORE, BEFORE)


@pytest.mark.parametrize("second", [FIRST, LAST], ids=["other CPUs", "the same CPUs"])
@pytest.mark.parametrize("first_leaves_first", [True, False])
def test_two_threads_blocks_leave_everything_as_it_was(
    second: CpuSet, first_leaves_first: bool, workers: tuple[Worker, Worker, Worker]
) -> None:
    """Each thread in a block stays on that block's CPUs; the others are where the last one to be entered put them."""
    one, two, idle = workers
    one.enters(LAST)
    two.enters(second)
    assert (affinity(one.tid), affinity(two.tid), affinity(idle.tid), affinity()) == (LAST, second, second, second)
    if first_leaves_first:
        one.leaves()
        assert (affinity(one.tid), affinity(two.tid), affinity(idle.tid)) == (
            BEFORE if second == FIRST else LAST,
            second,
            second,
        )
        two.leaves()
    else:
        two.leaves()
        assert (affinity(one.tid), affinity(two.tid), affinity(idle.tid)) == (LAST, LAST, LAST)
        one.leaves()
    assert [affinity(each) for each in (one.tid, two.tid, idle.tid, 0)] == [BEFORE] * 4


def test_a_third_block_takes_over_from_the_second(workers: tuple[Worker, Worker, Worker]) -> None:
    """They end in the order in which they were entered, so that each hands over to the next."""
    one, two, idle = workers
    one.enters(LAST)
    two.enters(FIRST)
    with hwnuma.bound(LAST):
        one.leaves()
        two.leaves()
        assert (affinity(), affinity(idle.tid)) == (LAST, LAST)
    assert [affinity(each) for each in (one.tid, two.tid, idle.tid, 0)] == [BEFORE] * 4


@pytest.mark.parametrize("first_leaves_first", [True, False])
def test_a_thread_that_was_started_in_two_blocks_on_the_same_cpus_is_put_back_by_the_last(
    first_leaves_first: bool, workers: tuple[Worker, Worker, Worker]
) -> None:
    """Nothing says in which of the two it was started, and it must not be taken out of the other one."""
    one, two, _ = workers
    one.enters(LAST)
    two.enters(LAST)
    born = Worker()
    leaving = (one, two) if first_leaves_first else (two, one)
    leaving[0].leaves()
    assert affinity(born.tid) == LAST
    leaving[1].leaves()
    assert affinity(born.tid) == BEFORE
    born.ends()


def test_a_thread_that_was_started_in_a_block_and_taken_by_another_is_put_back(
    workers: tuple[Worker, Worker, Worker],
) -> None:
    """It goes where the thread goes that entered the first, though that block has ended before."""
    one, two, _ = workers
    one.enters(LAST)
    born = Worker()
    two.enters(FIRST)
    assert affinity(born.tid) == FIRST
    one.leaves()
    two.leaves()
    assert affinity(born.tid) == BEFORE
    born.ends()


def test_all_threads_moves_a_thread_out_of_its_own_block_and_back(workers: tuple[Worker, Worker, Worker]) -> None:
    """`all_threads` means all; the end of that block puts it back into its own."""
    one = workers[0]
    one.enters(LAST)
    options = hwnuma.NumaOptions("exclusive", all_threads=True, keep_outer_mask=False)
    with hwnuma.bound(options, local_rank=0, ranks=2, gpus="none") as binding:
        assert affinity(one.tid) == binding.cpuset != LAST
    assert affinity(one.tid) == LAST
    one.leaves()
    assert affinity(one.tid) == BEFORE


ROUNDS = """
import json, os, sys, threading
import hwnuma
from hwnuma import CpuSet
rounds = int(sys.argv[1])
before = CpuSet(os.sched_getaffinity(0))
targets = [CpuSet([before.first]), CpuSet([before.last]), before, CpuSet([before.first])]
stray, stop, ready = [], threading.Event(), threading.Barrier(5)
def work(number):
    ready.wait()
    for turn in range(rounds):
        to = targets[(number + turn) % 4]
        with hwnuma.bound(to):
            stray.append(CpuSet(os.sched_getaffinity(0)) != to)
            child = threading.Thread(target=int)
            child.start()
            child.join()
            stray.append(CpuSet(os.sched_getaffinity(0)) != to)
idle = threading.Thread(target=stop.wait)
idle.start()
threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
for each in threads: each.start()
ready.wait()
for each in threads: each.join()
after = sorted({str(CpuSet(os.sched_getaffinity(tid))) for tid in (idle.native_id, os.getpid())})
stop.set()
print(json.dumps({"stray": sum(stray), "checks": len(stray), "after": after}))
"""


@pytest.mark.slow  # eight hundred moves
def test_four_threads_of_a_hundred_blocks_each() -> None:
    """In its block each thread is on its CPUs, at the beginning and at the end; afterwards none has been narrowed."""
    told, _ = answer_of(ROUNDS, "100")
    assert told == {"stray": 0, "checks": 800, "after": [str(BEFORE)]}


def test_a_block_that_failed_leaves_the_others_alone() -> None:
    """It is not open any more, and its end undoes nothing."""
    with hwnuma.bound(LAST):
        with pytest.raises(hwnuma.BindingError), hwnuma.bound(FIRST | CpuSet([8000])):
            pytest.fail("it cannot be entered")
        assert affinity() == LAST
    assert affinity() == BEFORE


FORKED = """
import json, os, sys, threading
import hwnuma
from hwnuma import CpuSet
before = CpuSet(os.sched_getaffinity(0))
stop = threading.Event()
threading.Thread(target=stop.wait, daemon=True).start()
read, write = os.pipe()
def there(): return [str(CpuSet(os.sched_getaffinity(int(tid)))) for tid in os.listdir("/proc/self/task")]
with hwnuma.bound(CpuSet([before.last])):
    inner = hwnuma.bound(CpuSet([before.first]))
    inner.__enter__()
    child = os.fork()
    inner.__exit__(None, None, None)
    if child == 0:
        os.write(write, there()[0].encode() + b" ")
    else:
        os.waitpid(child, 0)
        inside = there()
if child == 0:
    with hwnuma.bound(CpuSet([before.last])):
        os.write(write, there()[0].encode() + b" ")
    os.write(write, there()[0].encode())
    os._exit(0)
print(json.dumps({"inside": inside, "after": there(), "child": os.read(read, 100).decode().split()}))
"""


@pytest.mark.fault("fork", "a process forks within a block", "gives a child that moves none of its parent's threads")
def test_a_forked_child_leaves_its_parents_threads_alone() -> None:
    """It leaves the blocks that it was forked in for itself: its one thread goes where its parent's goes."""
    told, _ = answer_of(FORKED)
    assert told == {
        "inside": [str(LAST)] * 2,
        "after": [str(BEFORE)] * 2,
        "child": [str(LAST), str(LAST), str(BEFORE)],
    }


@pytest.mark.fault("fork", "a process forks while a thread enters a block", "gives a child that does not hang")
def test_a_fork_while_another_thread_enters_a_block_does_not_hang(workers: tuple[Worker, Worker, Worker]) -> None:
    """The child has no such thread that would give the lock back."""
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with BLOCKS._lock:
            held.set()
            go_on.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        with hwnuma.bound(LAST):
            os._exit(int(affinity() != LAST))
    go_on.set()
    holder.join()
    assert os.waitpid(child, 0)[1] == 0
    del workers


def policies() -> NodeSet:
    """A node that a policy may name here."""
    return NodeSet([next(iter(procfs.allowed_nodes() or NodeSet([0])))])


def test_memory_policies_of_blocks_may_end_in_any_order() -> None:
    """The one entered last stays, and then the one from before both comes back."""
    before = save_policy()
    bind = Binding(0, cpuset=LAST, nodeset=policies(), memory=MemoryPolicy.BIND)
    one = hwnuma.bound(bind)
    two = hwnuma.bound(Binding(0, cpuset=LAST, nodeset=policies(), memory=MemoryPolicy.INTERLEAVE))
    one.__enter__()
    two.__enter__()
    inside = save_policy()
    one.__exit__(None, None, None)
    assert save_policy() == inside != before
    two.__exit__(None, None, None)
    assert save_policy() == before


FORKED_POLICY = """
import json, os, sys
import hwnuma
from hwnuma import Binding, CpuSet, MemoryPolicy, NodeSet
from hwnuma.hwloc.mempolicy import save_policy
before = save_policy()
read, write = os.pipe()
to = Binding(0, cpuset=CpuSet(os.sched_getaffinity(0)), nodeset=NodeSet(sys.argv[1]), memory=MemoryPolicy.INTERLEAVE)
with hwnuma.bound(to):
    inside = save_policy()
    child = os.fork()
os.write(write, b"back " if save_policy() == before != inside else b"not ")
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
print(json.dumps(os.read(read, 100).decode().split()))
"""


@pytest.mark.fault(
    "fork", "a process forks within a block with a memory policy", "gives a child that puts its own back"
)
def test_a_forked_child_puts_its_own_memory_policy_back() -> None:
    """It has inherited the policy with the thread that forked it."""
    told, _ = answer_of(FORKED_POLICY, str(policies()))
    assert told == ["back", "back"]


def test_a_block_that_another_thread_ends_keeps_its_memory_policy_and_says_so(
    workers: tuple[Worker, Worker, Worker], caplog: pytest.LogCaptureFixture
) -> None:
    """Linux lets a thread set its own policy only; the CPUs are put back all the same."""
    worker = workers[0]
    worker.enters(Binding(0, cpuset=LAST, nodeset=policies(), memory=MemoryPolicy.BIND))
    worker.stack.pop_all().close()
    assert f"thread {worker.tid} keeps memory policy bind" in caplog.text
    assert affinity(worker.tid) == BEFORE
