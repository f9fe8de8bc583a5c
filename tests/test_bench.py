"""`hwnuma bench` on this machine: small buffers, real threads, and no look at how fast anything is."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hwnuma import BindingError, CpuSet, NodeSet, OptionError, Topology
from hwnuma.hwloc.library import ffi
from hwnuma.hwloc.mempolicy import save_policy
from hwnuma.launch.job import Job
from hwnuma.measure import cells, host_memory, limits
from hwnuma.measure.cells import Buffers, Place, Workers
from hwnuma.measure.gpus import GpusToMeasure
from hwnuma.measure.host_memory import HostMemory
from hwnuma.measure.kernels import HUGE_PAGE, LINE, Memory, Team
from hwnuma.measure.matrix import Asked, measure, places_of
from hwnuma.measure.verdict import differences_of, verdict_of
from hwnuma.model.measured import KINDS, Bandwidth, Estimate, Firmware, Latency, Measured, Placement
from hwnuma.model.value import replace
from hwnuma.processes.procfs import nodes_with_memory, thread_ids
from hwnuma.report.bench import bench_as_data, bench_as_text
from hwnuma.report.heat_map import heat_map_as_html, heat_map_as_svg
from tests.processes import answer_of
from tests.require import require
from tests.seccomp import can_deny
from tests.test_cli import run

MIB = 1 << 20

# What five of the smallest buffers take.
LITTLE = limits.BUFFERS * HUGE_PAGE
QUICK = Asked(seconds=0.1, memory=LITTLE, busy=True)


@pytest.fixture
def topology() -> Iterator[Topology]:
    """This system's."""
    with Topology.from_this_system(pci=False) as loaded:
        yield loaded


@pytest.fixture
def cpu() -> int:
    """A CPU that this process may use."""
    return min(os.sched_getaffinity(0))


def node_of(topology: Topology, cpu: int) -> int:
    """The NUMA node of a CPU."""
    return topology.machine().nodes_of(CpuSet([cpu]))[0].os_index


def wait_for_the_end(of: set[int]) -> None:
    """Wait until threads have ended to the kernel too, which is a moment after Python has joined them."""
    until = time.monotonic() + 60
    while of & set(thread_ids()):
        assert time.monotonic() < until, "threads go on"


def words_of(memory: Memory, kind: type) -> list:
    """All that a mapping holds."""
    return list((kind * (memory.size // ctypes.sizeof(kind))).from_address(memory.address))


# ---- kernels -------------------------------------------------------------------------------------------------


def test_a_ring_is_one_cycle_of_all_lines() -> None:
    """From any line, each other one comes before it comes again."""
    memory = Memory(HUGE_PAGE, huge_pages=False)
    memory.make_ring(7)
    words = words_of(memory, ctypes.c_uint64)
    at, seen = 0, []
    while at not in seen[:1]:
        seen.append(at)
        at = words[at // 8] - memory.address
    assert sorted(seen) == list(range(0, HUGE_PAGE, LINE))
    assert seen != sorted(seen)
    memory.free()


@pytest.mark.parametrize("threads", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_the_kernels_do_what_they_are_called_after(threads: int) -> None:
    """Each over its part of the arrays, from a place in the middle on and around: a = 1, c = a, a = b + 3 c."""
    arrays = tuple(Memory(HUGE_PAGE, huge_pages=False) for _ in range(3))
    a, _, c = arrays

    def all_of_it(kind: str) -> None:
        team = Team(threads)
        workers = [
            threading.Thread(target=team.stream, args=(kind, arrays, member, 8 * 1000, 0.1))
            for member in range(threads)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    elements = HUGE_PAGE // 8
    all_of_it("write")
    assert words_of(a, ctypes.c_double) == [1.0] * elements
    all_of_it("copy")
    assert words_of(c, ctypes.c_double) == [1.0] * elements
    all_of_it("triad")
    assert words_of(a, ctypes.c_double) == [3.0] * elements
    for memory in arrays:
        memory.free()


def test_a_team_that_is_stopped_ends_though_others_never_come() -> None:
    """Neither the one that waits for another nor the one that works."""
    arrays = tuple(Memory(HUGE_PAGE, huge_pages=False) for _ in range(3))
    team = Team(2)
    waiting = threading.Thread(target=team.stream, args=("read", arrays, 0, 0, float("inf")))
    waiting.start()
    team.stop()
    waiting.join(60)
    assert not waiting.is_alive()


# ---- cells ---------------------------------------------------------------------------------------------------


def test_each_worker_is_where_it_is_to_be(topology: Topology) -> None:
    """As the kernel has it: a thread a CPU, bound to that alone; this thread is not, and they end with the block."""
    before = os.sched_getaffinity(0)
    threads = set(thread_ids())
    with Workers(topology, sorted(before)):
        new = set(thread_ids()) - threads
        assert sorted(sorted(os.sched_getaffinity(thread)) for thread in new) == [[cpu] for cpu in sorted(before)]
        assert os.sched_getaffinity(0) == before
    wait_for_the_end(new)


def test_workers_of_a_cpu_that_there_is_not_end(topology: Topology) -> None:
    """The error comes out, and no thread that was started goes on."""
    with pytest.raises(BindingError), Workers(topology, [min(os.sched_getaffinity(0)), 8000]):
        pytest.fail("a thread was bound to CPU 8000")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("bench CPU")]


def test_more_address_space_than_there_is_is_an_error() -> None:
    """One line, with the number of bytes."""
    with pytest.raises(BindingError, match=f"{1 << 60} bytes of address space cannot be had to measure with"):
        Memory(1 << 60, huge_pages=False)


def test_memory_that_cannot_be_placed_is_given_back(topology: Topology, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a node that is not there, of a machine that has others: the kernel's error, and nothing stays mapped."""
    monkeypatch.setattr(cells.procfs, "nodes_with_memory", lambda: NodeSet("0-1"))
    buffers = Buffers(topology, 1000, HUGE_PAGE, huge_pages=False)
    with pytest.raises(BindingError, match="1000"), buffers:
        pytest.fail("memory is on node 1000")
    assert len(buffers._all) == 5
    assert all(memory._base == ffi.NULL for memory in buffers._all)


def test_nothing_to_measure_is_an_error(topology: Topology) -> None:
    """No node with CPUs that may be used and memory."""
    with pytest.raises(OptionError, match="there is nothing to measure: no NUMA node has both"):
        measure(topology, topology.machine(), QUICK, places=())


def test_where_pages_are_is_not_known_without_the_kernels_word(
    topology: Topology, cpu: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No numa_maps and no smaps, as in a sandbox: nothing is proven, and that is told."""

    def denied(*_: object, **__: object) -> None:
        raise PermissionError("denied")

    monkeypatch.setattr(cells, "open", denied, raising=False)
    with Buffers(topology, node_of(topology, cpu), HUGE_PAGE, huge_pages=False) as buffers:
        found = buffers.placement
    assert (found.bytes_by_node, found.huge_bytes, found.is_proven) == (None, None, False)
    assert "where its pages are cannot be seen" in bench_as_text(replace(two_nodes(1, 1), placements=(found,)), 200)


def test_huge_pages_are_none_where_the_kernel_does_not_count_them(
    topology: Topology, cpu: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel without smaps (CONFIG_PROC_PAGE_MONITOR) tells the nodes all the same, which is what counts."""

    def some_denied(path: str, **how: Any) -> Any:
        if path.endswith("smaps"):
            raise FileNotFoundError(path)
        return open(path, **how)  # noqa: PTH123 -- as it is called

    monkeypatch.setattr(cells, "open", some_denied, raising=False)
    with Buffers(topology, node_of(topology, cpu), HUGE_PAGE, huge_pages=False) as buffers:
        assert (buffers.placement.is_proven, buffers.placement.huge_bytes) == (True, 0)


SANDBOXED = """
import json, sys
from tests.seccomp import deny
from hwnuma import Topology
from hwnuma.measure.cells import Buffers
from hwnuma.measure.kernels import HUGE_PAGE
deny("set_mempolicy")
with Topology.from_this_system(pci=False) as topology, Buffers(topology, int(sys.argv[1]), HUGE_PAGE, huge_pages=False) as made:
    print(json.dumps([made.placement.is_proven, made.warnings]))
"""


def test_one_node_is_measured_where_no_policy_may_be_set(topology: Topology, cpu: int) -> None:
    """A container's seccomp profile denies it: there is no other node that it could keep out, and it is said."""
    require(can_deny(), "the numbers of this machine's system calls are not known to tests/seccomp.py")
    require(len(nodes_with_memory()) == 1, "this machine has several NUMA nodes, where it would be an error")
    (proven, [warning]), _ = answer_of(SANDBOXED, str(node_of(topology, cpu)))
    assert proven
    assert warning.startswith("memory was touched without a policy, on the only node that there is: ")


def test_buffers_are_proven_to_be_on_their_node(topology: Topology, cpu: int) -> None:
    """Every page of the five, by numa_maps; and where one moved, that is what is kept."""
    node = node_of(topology, cpu)
    with Buffers(topology, node, HUGE_PAGE, huge_pages=False) as buffers:
        found = buffers.placement
        assert found.bytes_by_node == ((node, LITTLE),)
        assert found.is_proven
        assert not Placement(node, ((node, LITTLE - 4096), (node + 1, 4096)), 0, LITTLE, 1).is_proven
        assert not Placement(node, None, None, LITTLE, 1).is_proven
        assert buffers.look().is_proven
        assert buffers.placement.looks == 2


# ---- the matrix ----------------------------------------------------------------------------------------------


def test_the_matrix_of_this_machine(topology: Topology) -> None:
    """Each cell is there, of every place; the process is as it was."""
    before, threads = (os.sched_getaffinity(0), save_policy()), set(thread_ids())
    machine = topology.machine().narrowed(CpuSet(os.sched_getaffinity(0)))
    found = measure(topology, machine, QUICK, _rounds=2)
    assert (os.sched_getaffinity(0), save_policy()) == before
    wait_for_the_end(set(thread_ids()) - threads)
    places = places_of(machine)
    assert {(row.cpu_node, row.memory_node) for row in found.bandwidth} == {
        (place.cpu_node, place.memory_node) for place in places
    }
    for place in places:
        rows = [
            row for row in found.bandwidth if (row.cpu_node, row.memory_node) == (place.cpu_node, place.memory_node)
        ]
        numbers = {1, len(place.cpus)}
        assert {(row.kind, row.threads) for row in rows} == {(kind, number) for kind in KINDS for number in numbers}
        assert all(row.bytes_per_second.samples == 2 for row in rows)
    assert all(each.is_proven and each.looks == 3 for each in found.placements)
    assert found.rounds == 2
    assert found.verdict == (
        "no verdict: 2 rounds are too few to tell a difference from chance, and 11 would do: say more --seconds",
    )


def twins(topology: Topology, cpu: int) -> tuple[Place, Place]:
    """Two cells that are the same but for their names: one CPU, and the same buffers."""
    node = node_of(topology, cpu)
    return Place(0, 0, (cpu,), node), Place(0, 1, (cpu,), node)


@pytest.mark.slow  # 32 s of one CPU, since it has to be found on a busy machine
def test_a_made_up_penalty_is_found_and_its_size_told(topology: Topology, cpu: int) -> None:
    """Memory "of node 1" is made to take six times as long: each quantity differs, and the truth is in its interval."""
    # Long visits and a large penalty, since here it has to be found however busy the machine is; and where others made
    # the intervals so wide that they overlap, it is measured again.
    places, asked = twins(topology, cpu), replace(QUICK, seconds=2.0)
    for _ in range(5):
        found = measure(topology, topology.machine(), asked, places=places, _factors={(0, 1): 6.0}, _rounds=16)
        told = {each.what: each.ratio for each in differences_of(found)}
        assert set(told) == {*(f"{kind} bandwidth" for kind in KINDS), "latency"}
        if None not in told.values():
            break
    for what, ratio in told.items():
        assert ratio is not None, what
        true = 6.0 if what == "latency" else 1 / 6.0
        assert ratio.low <= true <= ratio.high, (what, ratio)
    assert len(found.verdict) == 5
    assert all(sentence.startswith("memory of another node gives ") for sentence in found.verdict)


@pytest.mark.parametrize("runs", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_no_difference_is_found_between_equal_cells(topology: Topology, cpu: int, runs: int) -> None:
    """In 50 runs of two cells that are the same (in two, in the quick tests): five quantities each, and none that differs.

    Of eleven rounds the intervals go from the least to the greatest sample, and by chance those of equal cells do not
    overlap twice in 22! / (11! 11!) = 705,432 times: in one of some 1,400 runs of this test.
    """
    machine, places = topology.machine(), twins(topology, cpu)
    false: list[str] = []
    for _ in range(runs):
        found = measure(topology, machine, QUICK, places=places, _rounds=11)
        differences = differences_of(found)
        assert len(differences) == 5
        false += [each.what for each in differences if each.ratio is not None]
        if not false:
            assert found.verdict[0].startswith("no difference: ")
    print(f"{len(false)} false differences in {runs} runs")
    assert false == []


# ---- limits --------------------------------------------------------------------------------------------------


def test_never_more_than_a_tenth_of_a_nodes_free_memory() -> None:
    """Of the node with the least; --memory makes it less, and never more."""
    free = {0: 100 << 30, 1: 10 << 30}
    tenth = (1 << 30) // limits.BUFFERS // HUGE_PAGE * HUGE_PAGE
    assert limits.room_for(free, 1 << 30).buffer_bytes == tenth
    assert limits.room_for(free, 1 << 30, 50 << 30).buffer_bytes == tenth
    assert limits.room_for(free, 1 << 30, 200 * MIB).buffer_bytes == 20 * MIB
    assert limits.room_for(free, 32 * MIB).buffer_bytes == 128 * MIB
    assert limits.room_for(free, 0).buffer_bytes == 64 * MIB


def test_buffers_that_caches_may_hold_are_told() -> None:
    """And those of which nobody knows."""
    assert limits.room_for({0: 100 << 30}, 32 * MIB).notes == ()
    [note] = limits.room_for({0: 100 << 30}, 32 * MIB, 320 * MIB).notes
    assert note.startswith("the buffers have 64.0 MiB each, and the last-level caches 32.0 MiB: less than 4 times")
    [note] = limits.room_for({0: 100 << 30}, 0).notes
    assert note.startswith("the size of the caches is not known")


def test_too_little_memory_is_an_error() -> None:
    """With what there is, and what is needed."""
    with pytest.raises(OptionError, match=r"may give 5\.0 MiB .* 10\.0 MiB are needed: free some memory"):
        limits.room_for({0: 50 * MIB, 1: 1 << 40}, 0)
    assert "are needed" in run("bench", "--busy", "--memory", "1M", status=2).stderr


def test_free_memory_is_the_machines_where_nodes_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As sysconf has it; where that knows nothing either, nothing is known."""
    monkeypatch.setattr(limits.procfs, "node_memory", lambda _node: None)
    assert 0 < (limits.free_bytes(0) or 0) <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    def unknown(_name: str) -> int:
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "sysconf", unknown)
    assert limits.free_bytes(0) is None


def test_the_last_level_caches_are_counted_once_each(tmp_path: Path) -> None:
    """Two CPUs share one, the third has another; first levels do not count."""
    for number, (shared, size) in enumerate([("0-1", "32768K"), ("0-1", "32768K"), ("2", "16M")]):
        for index, (level, text, of) in enumerate([("1", "32K", str(number)), ("3", size, shared)]):
            folder = tmp_path / f"sys/devices/system/cpu/cpu{number}/cache/index{index}"
            folder.mkdir(parents=True)
            for name, content in (("level", level), ("size", text), ("shared_cpu_list", of)):
                (folder / name).write_text(f"{content}\n")
    assert limits.cache_bytes_over(CpuSet("0-2"), str(tmp_path)) == 48 * MIB
    assert limits.cache_bytes_over(CpuSet("7"), str(tmp_path)) == 0


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("512M", 512 * MIB), ("4g", 4 << 30), ("3K", 3072), ("1T", 1 << 40)]
)
def test_sizes(text: str, size: int) -> None:
    """Bytes, or with a unit of 1,024."""
    assert limits.memory_of(text) == size


@pytest.mark.parametrize(
    ("option", "text"),
    [("--memory", "much"), ("--memory", "0"), ("--memory", "-1M"), ("--memory", "1.5G"), ("--seconds", "0"),
     ("--seconds", "nan"), ("--seconds", "inf"), ("--seconds", "soon"), ("--output", "bench.txt"),
     ("--output", "bench.xml"), ("--huge-pages", "perhaps")],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_ahead_of_measuring(option: str, text: str) -> None:
    """One line that names the option."""
    error = run("bench", f"{option}={text}", status=2).stderr
    assert option in error
    assert error.count("\n") == 1


@pytest.mark.slow  # it has to be busy for a second
def test_a_busy_machine_is_refused(cpu: int) -> None:
    """Another process takes a CPU: exit status 2, and how to measure all the same."""
    spin = ["taskset", "--cpu-list", str(cpu), sys.executable, "-c", "print('ready', flush=True)\nwhile True: pass"]
    with subprocess.Popen(spin, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(OptionError, match=rf"^CPUs {cpu} are busy: others take \d+ % of their time"):
            limits.see_that_it_is_quiet(CpuSet([cpu]))
        error = run("bench", "--seconds", "1", "--memory", "16M", status=2).stderr
        process.kill()
    assert re.search(r"^hwnuma bench: CPUs .* are busy: .* or measure all the same with --busy\n$", error)


# ---- the command ---------------------------------------------------------------------------------------------


def test_the_command_prints_tables_and_a_verdict(tmp_path: Path) -> None:
    """And draws a heat map beside; its name is the last line."""
    picture = tmp_path / "bench.svg"
    done = run("bench", "--busy", "--seconds", "0.1", "--memory", "16M", "--output", str(picture))
    assert re.search(r"^CPUs of +memory +cores +GB/s +read +write +copy +triad$", done.stdout, re.MULTILINE)
    assert "non-temporal stores: " in done.stdout
    assert "huge pages: on" in done.stdout
    assert done.stdout.endswith(f"wrote {picture}\n")
    assert done.stderr == ""
    assert ET.fromstring(picture.read_text()).tag == "{http://www.w3.org/2000/svg}svg"


def test_the_command_as_json() -> None:
    """The keys of the contract."""
    data = json.loads(run("bench", "--busy", "--seconds", "0.1", "--memory", "16M", "--format", "json").stdout)
    assert data["schema"] == 1
    assert data["gpus"] == []
    assert all(isinstance(sentence, str) for sentence in data["verdict"])
    for row in data["bandwidth"]:
        assert {"cpu_node", "memory_node", "kind", "threads", "bytes_per_second"} == row.keys()
        assert {"median", "low", "high"} <= row["bytes_per_second"].keys()
    for row in data["latency"]:
        assert {"cpu_node", "memory_node", "loaded", "huge_pages", "seconds"} == row.keys()
        assert row["seconds"]["low"] <= row["seconds"]["median"] <= row["seconds"]["high"]


@pytest.mark.fault("signal", "SIGINT while threads measure", "gives the end by the signal, after the threads'")
@pytest.mark.parametrize(
    "seconds", [0.0, 0.1, *(pytest.param(each / 50, marks=pytest.mark.slow) for each in (1, 2, 3, 4, 6, 7, 8, 9))]
)
def test_an_interrupt_ends_it_by_the_signal(seconds: float) -> None:
    """With what was measured until then, or with nothing; without a traceback, and no thread is left that goes on.

    So long after its first thread has started: while it makes memory, and while threads read it, which is given back then.
    """
    command = [sys.executable, "-m", "hwnuma", "bench", "--busy", "--seconds", "600", "--memory", "16M"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        while len(list(Path(f"/proc/{process.pid}/task").iterdir())) == 1:
            assert process.poll() is None
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        try:
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGINT
    assert err == ""
    assert out == "" or "interrupted: these are the first" in out


def test_an_interrupt_in_a_later_round_gives_what_was_measured(topology: Topology, cpu: int) -> None:
    """The rounds that are whole; the caller is told."""
    rounds = 0

    def interrupting(_part: float) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 12 * 4 + 3:  # two cells of six each: in the fifth round, of which the first does not count
            raise KeyboardInterrupt

    found = measure(topology, topology.machine(), QUICK, places=twins(topology, cpu), progress=interrupting, _rounds=99)
    assert (found.rounds, found.interrupted) == (3, True)
    assert "interrupted: these are the first 3 rounds" in found.notes


# ---- words and drawings ----------------------------------------------------------------------------------------


def around(median: float) -> Estimate:
    """An estimate within 5 %."""
    return Estimate(median, median * 0.95, median * 1.05, median * 1.06, 12, 0.9937)


def two_nodes(bandwidth: float, latency: float) -> Measured:
    """A made-up machine of two nodes, whose other node's memory gives so many times of both."""
    pairs = [(cpu_node, memory) for cpu_node in (0, 1) for memory in (0, 1)]
    far = {pair: bandwidth if pair[0] != pair[1] else 1.0 for pair in pairs}
    slow = {pair: latency if pair[0] != pair[1] else 1.0 for pair in pairs}
    return Measured(
        source="this system",
        bandwidth=tuple(
            Bandwidth(*pair, kind, threads, around(threads * 1e10 * far[pair]))
            for pair in pairs
            for kind in KINDS
            for threads in (4, 1)
        ),
        latency=tuple(
            Latency(*pair, loaded, huge, around(1e-7 * slow[pair] * (2 if loaded else 1)))
            for pair in pairs
            for loaded, huge in ((False, True), (False, False), (True, True))
        ),
        placements=tuple(Placement(node, ((node, LITTLE),), 0, LITTLE, 13) for node in (0, 1)),
        firmware=tuple(Firmware(*pair, 2e10, 1e-7, 10 if pair[0] == pair[1] else 21) for pair in pairs),
        buffer_bytes=HUGE_PAGE,
        cache_bytes=32 * MIB,
        cpus=((0, CpuSet("0-3")), (1, CpuSet("4-7"))),
        nontemporal=True,
        huge_pages=True,
        rounds=12,
        seconds=30.0,
    )


def test_the_verdict_of_two_nodes() -> None:
    """How many times the bandwidth and the latency, each with its interval, and which pair is furthest off."""
    times = "\N{MULTIPLICATION SIGN}"
    said = verdict_of(two_nodes(0.6, 1.7))
    assert said[0] == (
        f"memory of another node gives 0.60 {times} (0.54-0.66) the read bandwidth, from node 0's CPUs to node 1's memory; "
        f"0.60 to 0.60 {times} in all 2 pairs of nodes"
    )
    assert said[-1].startswith(f"memory of another node gives 1.70 {times} (1.54-1.88) the latency")
    assert verdict_of(two_nodes(1.0, 1.7))[1].startswith("no difference in read bandwidth, write bandwidth, copy")


def test_the_verdict_of_nodes_that_are_alike() -> None:
    """One sentence: there is no difference, also where medians differ and their intervals overlap."""
    assert [each.partition(":")[0] for each in verdict_of(two_nodes(0.95, 1.05))] == ["no difference"]


def test_the_verdict_of_one_node() -> None:
    """Nothing to gain from binding to it; what cores of one's own give, and what no binding takes away."""
    whole = two_nodes(1, 1)
    one = replace(
        whole,
        bandwidth=tuple(row for row in whole.bandwidth if row.cpu_node == row.memory_node == 0),
        latency=tuple(row for row in whole.latency if row.cpu_node == row.memory_node == 0),
        cpus=whole.cpus[:1],
    )
    first, second = verdict_of(one)
    assert first.startswith(
        "one NUMA node: nothing to gain from binding to a node (--mode node); exclusive gives each rank"
    )
    assert "a core alone reads 10 GB/s (9.5-10.5), and all 4 at once read 40 GB/s (38-42), 10 GB/s each" in first
    assert second.startswith("while the other cores read, a load takes 2.00")


def test_the_verdict_of_one_node_with_one_core() -> None:
    """Nothing at all is to be gained then; and a latency that load does not change is none."""
    whole = two_nodes(1, 1)
    one = replace(
        whole,
        bandwidth=tuple(row for row in whole.bandwidth if row.cpu_node == row.memory_node == 0 and row.threads == 1),
        latency=(),
        cpus=whole.cpus[:1],
    )
    [said] = verdict_of(one)
    assert said.endswith("(--mode node); with one core, exclusive gives nothing")
    idle, _, busy = (row for row in whole.latency if row.cpu_node == row.memory_node == 0)
    alike = (idle, replace(busy, seconds=idle.seconds))
    both = tuple(row for row in whole.bandwidth if row.cpu_node == row.memory_node == 0)
    assert verdict_of(replace(one, bandwidth=both, latency=alike))[1].startswith("no difference between the latency of")


def test_the_verdict_of_pairs_of_which_some_are_alike() -> None:
    """How many of them there is no difference in."""
    found = two_nodes(0.6, 1.0)
    rows = tuple(
        replace(row, bytes_per_second=around(row.threads * 1e10)) if row.cpu_node == 1 else row
        for row in found.bandwidth
    )
    said = verdict_of(replace(found, bandwidth=rows))
    assert said[0].endswith("memory; no difference in 1 of 2 pairs of nodes")


def test_the_tables_say_what_the_firmware_says() -> None:
    """Beside the measured: bandwidth, latency, distance; and where the pages were."""
    text = bench_as_text(two_nodes(0.6, 1.7))
    assert re.search(r"^ +firmware +20$", text, re.MULTILINE)
    assert re.search(r"^0 +1 +median +170 ±5 % +170 ±5 % +340 ±5 % +100 +21$", text, re.MULTILINE)
    assert "memory of node 1: all pages of 10.0 MiB were there" in text
    moved = replace(two_nodes(1, 1), placements=(Placement(0, ((0, MIB), (1, MIB)), 0, 2 * MIB, 9),))
    assert "not all pages of 2.0 MiB were there, but 1.0 MiB on node 0, 1.0 MiB on node 1" in bench_as_text(moved, 200)


def test_a_heat_map_has_each_cells_number() -> None:
    """As text, in every matrix; the page is the drawing, and fetches nothing."""
    found = replace(two_nodes(0.6, 1.7), verdict=("this & that",))
    svg = heat_map_as_svg(found, "hwnuma bench <x>")
    texts = [each.text for each in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("40 ±5 %") == 2 * len(KINDS)
    assert texts.count("24 ±5 %") == 2 * len(KINDS)
    assert texts.count("170 ±5 %") == 2
    assert "this & that" in texts
    assert "made by: hwnuma bench <x>" in texts
    page = heat_map_as_html(found)
    assert svg.splitlines()[-1] in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")


def test_the_json_tells_all() -> None:
    """It can be written, and the placement is in it with its proof."""
    data = json.loads(json.dumps(bench_as_data(two_nodes(0.6, 1.7))))
    assert data["placement"][1] == {
        "memory_node": 1, "bytes_by_node": {"1": LITTLE}, "huge_bytes": 0, "total": LITTLE, "looks": 13, "proven": True,
    }  # fmt: skip
    assert data["firmware"][1] == {
        "cpu_node": 0, "memory_node": 1, "bytes_per_second": 2e10, "seconds": 1e-7, "distance": 21,
    }  # fmt: skip


def test_memory_to_copy_from_is_where_it_is_to_be(
    cpu: int, topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page is looked up; where the kernel does not tell, nothing is claimed."""
    node = node_of(topology, cpu)
    memory = HostMemory(MIB)
    assert sum(memory.nodes.values()) == MIB
    memory.nodes = {node: MIB}
    memory.check(None)
    memory.check(node)
    with pytest.raises(BindingError, match=rf"bound to NUMA node {node + 1} is elsewhere: 1 MiB on {node}$"):
        memory.check(node + 1)
    memory.close()

    def denied(*_: object, **__: object) -> None:
        raise PermissionError("denied")

    monkeypatch.setattr(host_memory, "open", denied, raising=False)
    memory = HostMemory(MIB)
    memory.check(node + 1)
    memory.close()


@pytest.mark.parametrize(("asked", "said"), [("nvml", "NVML"), ("none", "no GPUs are asked for")])
def test_gpus_that_cannot_be_asked_for_are_not_measured(asked: str, said: str) -> None:
    """It says why, and the nodes are measured all the same."""
    require(not Path("/dev/nvidiactl").exists(), "this machine has an NVIDIA GPU")
    gpus = GpusToMeasure(Job.asked({"gpus": asked}, {}))
    assert said in gpus.why_not
    assert gpus.measure(1.0, None) == ((), (gpus.why_not,))
