"""Binding of this process, of threads and of other processes, on the real kernel, and undoing it as a whole."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import pytest

import hwnuma
from hwnuma import Binding, BindingError, CpuSet, HwlocError, NodeSet, NumaOptions, Topology
from hwnuma.environment.omp import OmpVariables, omp_environment
from hwnuma.environment.outer_mask import explain, outer_binders
from hwnuma.processes import procfs
from hwnuma.processes.binding import apply, bind_thread
from tests.affinity import BEFORE, FIRST, LAST, affinity
from tests.processes import FIFTY_THREADS, answer_of, clean_environment, waiting
from tests.require import require
from tests.seccomp import can_deny

pytestmark = pytest.mark.usefixtures("two_cpus_and_back")


# ---- the topology for binding only ---------------------------------------------------------------------------


def test_the_topology_for_binding_binds_and_reads_what_the_kernel_has() -> None:
    """A synthetic topology of just the CPUs to bind to, declared to be this system, is all that libhwloc needs."""
    with Topology.for_binding(cpuset=LAST) as topology:
        topology.set_cpubind(LAST)
        assert (affinity(), topology.get_thread_cpubind()) == (LAST, LAST)
        topology.set_thread_cpubind(BEFORE)
        assert (affinity(), topology.get_thread_cpubind()) == (BEFORE, BEFORE)


def test_the_topology_for_binding_refuses_cpus_that_are_not_there() -> None:
    """Nothing is done in silence: the kernel's EINVAL comes out."""
    nowhere = CpuSet([8000])
    with Topology.for_binding(cpuset=nowhere) as topology:
        for bind in (topology.set_cpubind, topology.set_thread_cpubind):
            with pytest.raises(HwlocError) as caught:
                bind(nowhere)
            assert caught.value.errno == errno.EINVAL
    assert affinity() == BEFORE


@pytest.mark.parametrize("nodes", ["0", "0-3", "0,8", "252-255", "0-33"])
def test_the_topology_for_binding_has_the_nodes_asked_for(nodes: str) -> None:
    """Sparse and high node numbers too, since libhwloc refuses a policy on nodes that its topology does not have."""
    with Topology.for_binding(NodeSet(nodes)) as topology:
        machine = topology.machine()
        assert NodeSet(node.os_index for node in machine.numa_nodes) == NodeSet(nodes)
        assert topology.is_this_system


# ---- threads -------------------------------------------------------------------------------------------------


def test_one_thread_can_be_bound() -> None:
    """The calling thread or another one; the former affinity comes back."""
    stop = threading.Event()
    other = threading.Thread(target=stop.wait)
    other.start()
    assert other.native_id is not None
    try:
        with Topology.for_binding() as topology:
            assert bind_thread(topology, LAST, other.native_id) == BEFORE
        assert (affinity(other.native_id), affinity()) == (LAST, BEFORE)
    finally:
        stop.set()
        other.join()


@pytest.mark.fault("threads", "the thread to bind has ended", "gives one line with its number")
def test_a_thread_that_is_not_there_is_named() -> None:
    """ESRCH, with the number."""
    with Topology.for_binding() as topology, pytest.raises(BindingError, match="no thread 4194303") as caught:
        bind_thread(topology, LAST, 4194303)
    assert caught.value.errno == errno.ESRCH


BIND_FIFTY = (
    FIFTY_THREADS
    + """
import hwnuma
from hwnuma import Binding, CpuSet
before = os.sched_getaffinity(0)
to = CpuSet([min(before)])
with hwnuma.bound(Binding(0, cpuset=to)) as binding:
    found = hwnuma.verify(binding)
    inside = [tid for tid in map(int, os.listdir("/proc/self/task")) if os.sched_getaffinity(tid) == set(to)]
after = {int(tid): sorted(os.sched_getaffinity(int(tid))) for tid in os.listdir("/proc/self/task")}
print(json.dumps({
    "pinned": sorted(pinned), "inside": len(inside), "drift": sorted(d.tid for d in found.drift), "ok": found.ok,
    "after": [after.pop(tid) for tid in pinned] + [sorted(map(list, {tuple(cpus) for cpus in after.values()}))],
}))
"""
)


def test_every_thread_that_nobody_pinned_follows_and_verify_names_the_others() -> None:
    """Fifty threads, five of them pinned: 46 inside, five named; afterwards each is where it was."""
    told, _ = answer_of(BIND_FIFTY, str(BEFORE.last))
    assert told["drift"] == told["pinned"]
    assert (told["inside"], len(told["pinned"]), told["ok"]) == (46, 5, False)
    assert told["after"] == [[BEFORE.last]] * 5 + [[list(BEFORE)]]


WHILE_BINDING = """
import json, os, sys, threading
import hwnuma
from hwnuma import CpuSet, Topology, Binding
from hwnuma.processes.binding import apply
stop = threading.Event()
to = CpuSet([max(os.sched_getaffinity(0))])
def spawn():
    while not stop.is_set():
        child = threading.Thread(target=stop.wait, args=(0.02,))
        child.start()
        child.join(0.001)
spawners = [threading.Thread(target=spawn) for _ in range(4)]
for each in spawners: each.start()
outside = 0
with Topology.for_binding(cpuset=to) as topology:
    for _ in range(20):
        applied = apply(topology, Binding(0, cpuset=to))
        for tid in map(int, os.listdir("/proc/self/task")):
            try:
                outside += os.sched_getaffinity(tid) != set(to)
            except ProcessLookupError:
                pass
        applied.undo(topology)
stop.set()
for each in spawners: each.join()
print(json.dumps({"outside": outside, "now": sorted(os.sched_getaffinity(0))}))
"""


@pytest.mark.fault("threads", "threads start and end while a process is bound", "gives all of them bound")
def test_threads_that_start_while_binding_are_caught() -> None:
    """Four threads start others all the time; after each of 20 binds none is outside."""
    told, _ = answer_of(WHILE_BINDING)
    assert told == {"outside": 0, "now": list(BEFORE)}


def test_all_threads_moves_pinned_ones_and_gives_each_its_own_affinity_back() -> None:
    """With all_threads a pinned thread goes too; undoing tells the two former affinities apart."""
    ready, stop = threading.Event(), threading.Event()

    def pinned() -> None:
        os.sched_setaffinity(0, FIRST)
        ready.set()
        stop.wait()

    thread = threading.Thread(target=pinned)
    thread.start()
    ready.wait()
    assert thread.native_id is not None
    try:
        with Topology.for_binding(cpuset=LAST) as topology:
            applied = apply(topology, Binding(0, cpuset=LAST), all_threads=True)
            assert (affinity(), affinity(thread.native_id)) == (LAST, LAST)
            applied.undo(topology)
            assert (affinity(), affinity(thread.native_id)) == (BEFORE, FIRST)
            applied = apply(topology, Binding(0, cpuset=LAST))
            assert (affinity(), affinity(thread.native_id)) == (LAST, FIRST)
            assert applied.kept == {thread.native_id: FIRST}
            applied.undo(topology)
    finally:
        stop.set()
        thread.join()


def test_a_thread_started_in_the_block_follows_the_one_that_entered_it() -> None:
    """A pool made under `bound` is not left on the bound CPUs, and one that pinned itself meanwhile stays."""
    stop = threading.Event()
    with hwnuma.bound(LAST):
        pool = [threading.Thread(target=stop.wait) for _ in range(2)]
        for thread in pool:
            thread.start()
        ids = [thread.native_id or 0 for thread in pool]
        assert [affinity(tid) for tid in ids] == [LAST, LAST]
        os.sched_setaffinity(ids[1], FIRST)
    assert (affinity(), affinity(ids[0]), affinity(ids[1])) == (BEFORE, BEFORE, FIRST)
    stop.set()


class Waiting:
    """A thread that waits until the end of the block, and starts others like it on request."""

    def __init__(self, at: CpuSet | None = None) -> None:
        self._asked: SimpleQueue[bool] = SimpleQueue()
        self._made: SimpleQueue[Waiting] = SimpleQueue()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._wait, args=(at,), daemon=True)
        self.tid = 0

    def __enter__(self) -> Waiting:
        self._thread.start()
        assert self._ready.wait(60)
        self.tid = self._thread.native_id or 0
        return self

    def _wait(self, at: CpuSet | None) -> None:
        if at is not None:
            os.sched_setaffinity(0, at)
        self._ready.set()
        while self._asked.get():
            self._made.put(Waiting().__enter__())

    def starts_another(self) -> Waiting:
        """Have it start a thread, which begins where it is."""
        self._asked.put(True)
        return self._made.get(timeout=60)

    def __exit__(self, *_error: object) -> None:
        self._asked.put(False)
        self._thread.join()


class Hooked:
    """A topology that calls something after each move of another thread."""

    def __init__(self, topology: Topology, after_move: Callable[[CpuSet, int], object]) -> None:
        self._topology, self._after_move = topology, after_move

    def __getattr__(self, name: str) -> Any:
        return getattr(self._topology, name)

    def set_thread_cpubind(self, cpuset: CpuSet, thread: int = 0) -> None:
        """Move it, and call that."""
        self._topology.set_thread_cpubind(cpuset, thread)
        self._after_move(cpuset, thread)


@pytest.mark.fault("threads", "a thread starts while a binding is undone", "gives it put back too")
def test_a_thread_that_is_started_while_undoing_is_put_back_too() -> None:
    """By one that has not been put back yet, after the threads were listed: they are listed again."""
    born: list[Waiting] = []
    with Waiting() as parent, Topology.for_binding(cpuset=LAST) as topology:

        def give_birth(_cpuset: CpuSet, _thread: int) -> None:
            if not born:
                born.append(parent.starts_another())

        applied = apply(topology, Binding(0, cpuset=LAST))
        hooked: Any = Hooked(topology, give_birth)
        applied.undo(hooked)
        assert [affinity(each) for each in (0, parent.tid, born[0].tid)] == [BEFORE] * 3
        born[0].__exit__()


def test_a_thread_that_was_on_the_cpus_before_stays_there() -> None:
    """Somebody had pinned it to just these, so undoing must not take it for one that was started since."""
    with Waiting(at=LAST) as pinned:
        with hwnuma.bound(LAST), Waiting() as since:
            assert affinity(pinned.tid) == affinity(since.tid) == LAST
        assert affinity(pinned.tid) == LAST


def test_a_thread_that_is_pinned_while_binding_and_set_free_again_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was to be left alone at first; moved after all, it is put back as the others are."""
    with Waiting(at=FIRST) as pinned, Waiting(at=LAST) as new, Topology.for_binding(cpuset=LAST) as topology:
        listings: list[list[int]] = []
        real = procfs.thread_ids

        def listed(pid: int | None = None) -> list[int]:
            listings.append(real(pid))
            if len(listings) == 3:
                os.sched_setaffinity(pinned.tid, BEFORE)
            return [tid for tid in listings[-1] if tid != new.tid or len(listings) > 1]

        monkeypatch.setattr(procfs, "thread_ids", listed)
        applied = apply(topology, Binding(0, cpuset=LAST))
        assert affinity(pinned.tid) == LAST
        assert pinned.tid not in applied.kept
        applied.undo(topology)
        assert affinity(pinned.tid) == BEFORE


def test_threads_are_listed_until_nothing_new_has_come_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may leave a thread out of a listing while others come and go, so one that is quiet is not trusted."""
    with Waiting() as late, Waiting(at=LAST) as new, Topology.for_binding(cpuset=LAST) as topology:
        main = threading.get_native_id()
        listings: list[None] = []

        def listed(_pid: int | None = None) -> list[int]:
            listings.append(None)
            shown = {1: [main], 2: [main, new.tid], 3: [main, new.tid]}
            return shown.get(len(listings), [main, new.tid, late.tid])

        monkeypatch.setattr(procfs, "thread_ids", listed)
        apply(topology, Binding(0, cpuset=LAST))
        assert affinity(late.tid) == LAST
        # One ahead of the first move, two quiet ones, one in which the late thread is moved, and three quiet ones.
        assert len(listings) == 7


def test_threads_are_put_back_as_they_are_listed_and_three_times_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """While each time one more was put back; whatever starts threads for ever must not keep it for ever."""
    with Waiting() as one, Waiting() as two, Waiting() as three, Topology.for_binding(cpuset=LAST) as topology:
        applied = apply(topology, Binding(0, cpuset=LAST))
        main = threading.get_native_id()
        listings: list[None] = []

        def listed(_pid: int | None = None) -> list[int]:
            listings.append(None)
            return [main, one.tid, two.tid, three.tid][: len(listings)]

        monkeypatch.setattr(procfs, "thread_ids", listed)
        applied.undo(topology)
        assert [affinity(each) for each in (0, one.tid, two.tid, three.tid)] == [BEFORE, BEFORE, BEFORE, LAST]
        assert len(listings) == 3


@pytest.mark.fault("threads", "two bind one thread at the same time", "gives one of them an error")
def test_two_that_bind_one_thread_at_the_same_time_are_told() -> None:
    """It does not end in silence with the thread elsewhere: an error, and all is as it was."""
    with Waiting() as fought_for, Topology.for_binding(cpuset=LAST) as topology:

        def move_back(_cpuset: CpuSet, thread: int) -> None:
            if thread == fought_for.tid:  # and not one of an earlier test that is at its end
                os.sched_setaffinity(thread, BEFORE)

        hooked: Any = Hooked(topology, move_back)
        with pytest.raises(BindingError, match="each of 1000 times; something else binds them at") as caught:
            apply(hooked, Binding(0, cpuset=LAST))
        assert caught.value.errno == errno.EAGAIN
        assert [affinity(), affinity(fought_for.tid)] == [BEFORE] * 2


def test_bound_restores_after_an_exception() -> None:
    """As every context manager should."""
    with pytest.raises(KeyError), hwnuma.bound(LAST):
        raise KeyError
    assert affinity() == BEFORE


def test_bound_plans_like_bind() -> None:
    """Options instead of CPUs: the rank's own share of the machine."""
    with hwnuma.bound(NumaOptions("exclusive"), local_rank=1, ranks=2, gpus="none") as binding:
        assert affinity() == binding.cpuset < BEFORE
    assert affinity() == BEFORE


@pytest.mark.fault(
    "cgroup", "the kernel binds to fewer CPUs than were asked for", "gives an error, and all is as before"
)
def test_cpus_that_the_kernel_cuts_are_an_error_and_everything_is_as_before() -> None:
    """The kernel takes CPUs of which one exists and drops the rest; reading back shows it."""
    with pytest.raises(BindingError, match=f"CPUs {LAST},8000 gave CPUs {LAST}"), hwnuma.bound(LAST | CpuSet([8000])):
        pass
    assert affinity() == BEFORE


# ---- other processes -----------------------------------------------------------------------------------------

FIFTY_WAITING = FIFTY_THREADS + "print('ready', flush=True); sys.stdin.readline()"


def test_another_process_is_bound_with_its_threads() -> None:
    """All of its threads that nobody pinned; with all_threads all."""
    with waiting(sys.executable, "-c", FIFTY_WAITING, str(FIRST)) as process:
        binding = hwnuma.bind_process(process.pid, Binding(0, cpuset=LAST))
        found = hwnuma.verify(binding, process.pid)
        assert (len(found.threads), len(found.drift), {drift.found for drift in found.drift}) == (51, 5, {FIRST})
        hwnuma.bind_process(process.pid, binding, all_threads=True)
        assert hwnuma.verify(binding, process.pid, exact=True).ok
    assert affinity() == BEFORE


@pytest.mark.fault("proc", "there is no such process", "gives one line with its number")
def test_a_process_that_is_not_there_is_named() -> None:
    """ESRCH, with the pid."""
    with pytest.raises(BindingError, match="no process 4194303") as caught:
        hwnuma.bind_process(4194303, Binding(0, cpuset=LAST))
    assert caught.value.errno == errno.ESRCH


AS_NOBODY = """
import json, os, sys
from hwnuma import Binding, BindingError, CpuSet, bind_process  # while this Python's files may be read
import hwnuma.processes.refusals
os.setuid(65534)
try:
    bind_process(int(sys.argv[1]), Binding(0, cpuset=CpuSet(sys.argv[2])))
except BindingError as error:
    print(json.dumps([error.errno, error.strerror]))
"""


@pytest.mark.fault("proc", "the process to bind is another user's", "gives one line with its owner")
@pytest.mark.root
def test_another_users_process_is_refused_with_its_owner() -> None:
    """EPERM, and it says whose process it is."""
    require(os.geteuid() == 0, "becoming another user needs root")
    with waiting("sh", "-c", "echo ready; read line") as process:
        (code, text), _ = answer_of(AS_NOBODY, str(process.pid), str(LAST))
        assert code == errno.EPERM
        assert f"process {process.pid} of user 0" in text
        assert affinity(process.pid) == BEFORE


def test_the_command_line_binds_a_process() -> None:
    """`hwnuma bind --cpus LIST PID`."""
    with waiting("sh", "-c", "echo ready; read line") as process:
        command = [sys.executable, "-m", "hwnuma", "bind", "--cpus", str(LAST), str(process.pid)]
        subprocess.run(command, check=True, env=clean_environment(), timeout=60)
        assert affinity(process.pid) == LAST


DENIED_AFFINITY = """
import json, os
import hwnuma
from tests.seccomp import deny
before = os.sched_getaffinity(0)
deny("sched_setaffinity")
try:
    with hwnuma.bound(hwnuma.CpuSet([max(before)])): pass
except hwnuma.BindingError as error:
    print(json.dumps([error.errno, error.strerror, os.sched_getaffinity(0) == before]))
"""


@pytest.mark.fault("seccomp", "sched_setaffinity is denied", "gives one line that names the sandbox")
def test_a_denied_sched_setaffinity_is_told() -> None:
    """By a real seccomp filter: an error that names it, and nothing has changed."""
    require(can_deny(), "the numbers of this machine's system calls are not known to tests/seccomp.py")
    (code, text, unchanged), _ = answer_of(DENIED_AFFINITY)
    assert (code, unchanged) == (errno.EPERM, True)
    assert "seccomp" in text


# ---- the outer mask ------------------------------------------------------------------------------------------


def exec_under(mask: CpuSet, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``hwnuma exec`` of one rank without GPUs from a process that somebody has bound."""
    command = [sys.executable, "-m", "hwnuma", "exec", "--gpus", "none", "--ranks", "1", "--local-rank", "0", *options]
    return subprocess.run(
        ["taskset", "--cpu-list", str(mask), *command, "--", "grep", "Cpus_allowed_list", "/proc/self/status"],
        capture_output=True, text=True, check=False, env=clean_environment(**environment), timeout=60,
    )  # fmt: skip


def test_an_outer_mask_is_kept_and_told_with_both_sets_and_the_way_out() -> None:
    """One core of mpirun's: the rank stays on it, and the warning says what it would have got and how to get it."""
    done = exec_under(FIRST, OMPI_COMM_WORLD_SIZE="2")
    assert done.stdout.split()[1] == str(FIRST)
    assert f"gets CPUs {FIRST} instead of {BEFORE}" in done.stderr
    assert "mpirun --bind-to none" in done.stderr
    assert "--outer-mask reset" in done.stderr


def test_an_outer_mask_can_be_left() -> None:
    """`reset` uses all that the cgroup allows, and says nothing."""
    done = exec_under(FIRST, "--outer-mask", "reset")
    assert (done.stdout.split()[1], done.stderr) == (str(BEFORE), "")


def test_an_outer_mask_that_makes_a_plan_impossible_is_in_the_error() -> None:
    """Two exclusive ranks in one core: the error says that the mask is the cause."""
    done = exec_under(FIRST, "--ranks", "2", "--mode", "exclusive", SLURM_CPU_BIND="quiet,mask_cpu:0x1")
    assert done.returncode == 1
    assert "without the inherited affinity it is CPUs" in done.stderr
    assert "srun --cpu-bind=none" in done.stderr


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "mpirun --bind-to none"),
        ({"I_MPI_MPIRUN": "mpirun", "MPI_LOCALRANKID": "0"}, "I_MPI_PIN=0"),
        ({"SLURM_CPU_BIND": "quiet,mask_cpu:0x3"}, "srun --cpu-bind=none"),
        ({"FLUX_TASK_LOCAL_ID": "0"}, "cpu-affinity=off"),
        ({"PALS_LOCAL_RANKID": "0"}, "--cpu-bind none"),
        ({"KMP_AFFINITY": "granularity=fine,compact"}, "KMP_AFFINITY=granularity=fine,compact pins"),
        ({"GOMP_CPU_AFFINITY": "0-3"}, "GOMP_CPU_AFFINITY"),
        ({}, "taskset"),
        ({"SLURM_CPU_BIND": "quiet,none", "SLURM_JOB_ID": "1"}, "taskset"),
        ({"SLURM_CPU_BIND": "quiet,mask_cpu:0x1", "PMI_RANK": "0"}, "srun --cpu-bind=none"),
        ({"MPI_LOCALRANKID": "0", "PMI_RANK": "0"}, "taskset"),
        ({"MPI_LOCALRANKID": "0", "HYDRA_USER_PROVIDED_BINDING": "1"}, "mpiexec -bind-to none"),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_MCA_orte_launch": "1"}, "taskset"),
        (
            {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_MCA_orte_launch": "1", "OMPI_MCA_orte_bound_at_launch": "1"},
            "mpirun --bind-to none",
        ),
        ({"OMP_PROC_BIND": "false", "KMP_AFFINITY": "disabled"}, "taskset"),
    ],
)
def test_who_bound_a_process_is_read_from_its_environment(environment: dict[str, str], said: str) -> None:
    """Each launcher by its own variable, with its own switch; one that says that it does not bind is not accused."""
    assert said in outer_binders(environment)[0]
    assert str(FIRST) in explain(FIRST, environment)


# ---- OpenMP --------------------------------------------------------------------------------------------------

CORES = [CpuSet("0,4"), CpuSet("1,5")]


@pytest.mark.parametrize(
    ("choice", "environment", "added"),
    [
        ("off", {}, {}),
        ("set", {}, {"OMP_NUM_THREADS": "2", "OMP_PLACES": "{0,4},{1,5}", "OMP_PROC_BIND": "false"}),
        ("set", {"OMP_NUM_THREADS": "7", "OMP_PLACES": "cores"}, {}),
        ("set", {"OMP_PROC_BIND": "close"}, {"OMP_NUM_THREADS": "2", "OMP_PLACES": "{0,4},{1,5}"}),
        ("set", {"KMP_AFFINITY": "compact"}, {"OMP_NUM_THREADS": "2"}),
    ],
)
def test_openmp_variables_never_override_a_users(
    choice: str, environment: dict[str, str], added: dict[str, str]
) -> None:
    """What the user has set stays, each variable by itself; places alone must not turn on pinning."""
    assert omp_environment(OmpVariables(choice), CORES, environment) == added


TORCHRUN = {"LOCAL_WORLD_SIZE": "8", "TORCHELASTIC_RUN_ID": "none", "OMP_NUM_THREADS": "1", "OMP_PLACES": "cores"}


@pytest.mark.parametrize(
    ("choice", "change", "added"),
    [
        ("set", {}, {}),
        ("torchrun", {}, {"OMP_NUM_THREADS": "2"}),
        ("torchrun", {"LOCAL_WORLD_SIZE": "1"}, {}),
        ("torchrun", {"OMP_NUM_THREADS": "3"}, {}),
    ],
)
def test_torchruns_one_thread_is_replaced_on_request_only(
    choice: str, change: dict[str, str], added: dict[str, str]
) -> None:
    """A 1 with several workers under torchrun; a user's own 1 looks the same, so it takes a word."""
    assert omp_environment(OmpVariables(choice), CORES, TORCHRUN | change) == added


PLANNED_WITH_OMP = """
import json
from hwnuma import Topology
from hwnuma.cli import exec as exec_command
loaded, load = [], Topology.from_this_system
Topology.from_this_system = lambda **wanted: loaded.append(wanted) or load(**wanted)
def tell(program, command, environment):
    names = ("OMP_NUM_THREADS", "OMP_PLACES", "HWNUMA_BOUND_CPUS")
    print(json.dumps([len(loaded), *(environment[name] for name in names)]))
    raise SystemExit
exec_command.become = tell
exec_command.main(["--gpus", "none", "--ranks", "1", "--local-rank", "0", "--omp", "true"])
"""


def test_the_machine_is_looked_at_once_for_a_place_and_its_cores() -> None:
    """`--omp` of a planned place: the cores are noted where it is planned, and all its CPUs are in them."""
    (looks, threads, places, cpus), _ = answer_of(PLANNED_WITH_OMP)
    assert looks == 1
    assert threads == str(places.count("{"))
    assert CpuSet(places.replace("{", "").replace("}", "")) == CpuSet(cpus)


def test_exec_sets_openmps_variables_from_the_cores_that_it_binds_to() -> None:
    """`--omp` before a command, without a value."""
    command = [sys.executable, "-m", "hwnuma", "exec", "--cpus", str(LAST), "--omp", "env"]
    told = subprocess.run(
        command, capture_output=True, text=True, check=True, env=clean_environment(), timeout=60
    ).stdout
    assert "OMP_NUM_THREADS=1" in told.splitlines()
    assert f"OMP_PLACES={{{LAST}}}" in told.splitlines()
