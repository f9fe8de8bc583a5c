"""No leak in ten thousand loads and binds, and no crash with fork, spawn and threads at once."""

from __future__ import annotations

import pytest

from tests.processes import answer_of

# Either takes ten seconds and a set amount of work. After so many it hangs, however busy the machine is.
_HANGS = 600

LEAK = """
import gc, json, os, sys, time
from hwnuma import Binding, CpuSet, NodeSet, MemoryPolicy, Topology
from hwnuma.processes.binding import apply
def rss():
    gc.collect()
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")
cpus = sorted(os.sched_getaffinity(0))
def load():
    with Topology.from_synthetic("pack:2 numa:2 l3:2 core:4 pu:2") as topology:
        topology.is_this_system
def bind(number):
    one = CpuSet([cpus[number % len(cpus)]])
    with Topology.for_binding(NodeSet([0]), one) as topology:
        applied = apply(topology, Binding(0, cpuset=one))
        applied.undo(topology)
def both(times):
    for number in range(times):
        load()
        bind(number)
both(500)
before, start = rss(), time.monotonic()
both(10000)
after = rss()
for _ in range(100):
    with Topology.from_this_system() as topology:
        topology.machine()
settled = rss()
for _ in range(200):
    with Topology.from_this_system() as topology:
        topology.machine()
print(json.dumps({"grown": after - before, "here": rss() - settled, "seconds": time.monotonic() - start}))
"""


@pytest.mark.slow
def test_ten_thousand_loads_and_binds_leave_memory_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    """One process: 10,000 topologies loaded, 10,000 binds undone, and 200 copies of this system; memory stays flat."""
    told, _ = answer_of(LEAK, timeout=_HANGS)
    with capsys.disabled():
        print(
            f"\n10,000 loads and 10,000 binds in {told['seconds']:.0f} s: resident memory grew by "
            f"{told['grown'] / 1024:.0f} KiB; 200 discoveries of this system: {told['here'] / 1024:.0f} KiB"
        )
    # A leak of one small topology (about 100 KiB) or one bitmap (64 bytes) in each turn would be a GiB, or 640 KiB.
    assert told["grown"] < 512 * 1024
    assert told["here"] < 512 * 1024


STRESS = """
import concurrent.futures, json, multiprocessing, os, sys, threading, time
import hwnuma
from hwnuma import CpuSet, Topology
cpus = sorted(os.sched_getaffinity(0))

def work(number):
    with hwnuma.bound(CpuSet([cpus[number % len(cpus)]])) as binding:
        inside = os.sched_getaffinity(0) == set(binding.cpuset)
    return inside and os.sched_getaffinity(0) == set(cpus)

def child_of_fork(topology):
    # The parent's handle is here too: it may be read, is dropped and not freed.
    good = topology.machine().cpuset and work(1)
    topology.close()
    os._exit(0 if good else 1)

def main():
    failures, turns, stop = [], threading.Semaphore(0), threading.Event()
    def spin():
        while turns.acquire() and not stop.is_set():
            with Topology.from_synthetic("pack:2 core:2 pu:2") as each:
                if len(each.machine().cpuset) != 8:
                    failures.append("machine")
            tid = threading.get_native_id()
            with Topology.for_binding() as each:
                each.get_thread_cpubind(tid)
    threads = [threading.Thread(target=spin) for _ in range(4)]
    for each in threads: each.start()
    with Topology.from_this_system() as topology:
        for _ in range(50):
            turns.release(12)
            pid = os.fork()
            if pid == 0:
                child_of_fork(topology)
            if os.waitpid(pid, 0)[1] != 0:
                failures.append("fork")
        turns.release(1000)
        spawn = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(4, mp_context=spawn) as pool:
            if not all(pool.map(work, range(200))):
                failures.append("spawn")
        if not topology.machine().cpuset:
            failures.append("parent")
    stop.set()
    turns.release(4)
    for each in threads: each.join()
    print(json.dumps(failures))

if __name__ == "__main__":
    main()
"""


@pytest.mark.fault(
    "threads", "threads load, and the process forks and spawns, all at once", "gives no error and no hang"
)
@pytest.mark.slow
def test_fork_spawn_and_threads_at_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Four threads load and read, 50 forks bind through the parent's library, four spawned workers bind 200 times.

    The threads have some turns for each fork, so that on a busy machine there is no more to do, only less time for it.
    """
    script = tmp_path_factory.mktemp("stress") / "stress.py"
    script.write_text(STRESS)
    failures, _ = answer_of(
        "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')", str(script), timeout=_HANGS
    )
    assert failures == []


FORKS = """
import json, os, signal, sys, threading
from hwnuma import Topology
stop = threading.Event()
def make():
    while not stop.is_set():
        Topology.for_binding().close()
threads = [threading.Thread(target=make) for _ in range(2)]
for each in threads: each.start()
ends = set()
for _ in range(int(sys.argv[1])):
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        Topology.for_binding().close()
        os._exit(0)
    ends.add(os.waitpid(child, 0)[1])
    if ends != {0}: break
stop.set()
for each in threads: each.join()
print(json.dumps(sorted(ends)))
"""


@pytest.mark.fault(
    "fork", "a process forks while a thread is within libhwloc's lock", "gives a child that does not hang"
)
@pytest.mark.slow
def test_a_child_can_make_topologies_whatever_other_threads_did_when_it_was_forked() -> None:
    """The library has a lock that a thread may hold at that moment; without a guard one child of some 300 hung."""
    ends, _ = answer_of(FORKS, "1000", timeout=_HANGS)
    assert ends == [0]
