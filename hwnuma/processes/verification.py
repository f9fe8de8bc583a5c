"""Where the threads and the memory of a running process really are, against where they should be. It changes nothing.

A thread elsewhere is *outside*: something is off. One that somebody has pinned to some of the expected CPUs (OpenMP, a
library's helper thread) is *narrower*: it is named, and by itself nothing is off; but if all threads together cannot
reach some of the expected CPUs, the whole process has been narrowed, by an outer launcher for instance: that is off.
"""

from __future__ import annotations

import os

from hwnuma.errors import BindingError, OptionError, PlanError
from hwnuma.model.bitmap import CpuSet, NodeSet, union
from hwnuma.model.characters import printable
from hwnuma.model.options import AffinityMode, MemoryPolicy
from hwnuma.model.plan import BOUND_CPUS, BOUND_MEMORY, BOUND_NODES, Binding
from hwnuma.model.value import Value, replace
from hwnuma.policy.locality import locate
from hwnuma.policy.modes import reach
from hwnuma.processes import procfs
from hwnuma.processes.procfs import Pages, ThreadPolicy
from hwnuma.processes.refusals import affinity_not_read, not_readable
from hwnuma.processes.trust import ProcessEnvironment, environment_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hwnuma.model.gpu import Gpu
    from hwnuma.model.machine import Machine

# Linux cannot be built for more (NR_CPUS with MAXSMP; NODES_SHIFT). A record beyond has been made up, and may be long.
_MOST_CPUS, _MOST_NODES = 8192, 1024


class Expected(Value):
    """Where a process should be.

    Attributes:
        cpuset: its threads' CPUs.
        nodeset: its memory's NUMA nodes; empty if nothing is expected of memory.
        memory: the memory policy; with `none`, none is checked.
        near_memory_nodes: nodes of memory alone (a GPU's own) that memory may be on too; no policy names them.
        source: who says so, for people.
        anywhere_within: threads may be anywhere in these CPUs, and need not reach all of them.
    """

    cpuset: CpuSet
    nodeset: NodeSet = NodeSet()
    memory: MemoryPolicy = MemoryPolicy.NONE
    source: str = ""
    anywhere_within: bool = False
    near_memory_nodes: NodeSet = NodeSet()

    @classmethod
    def of(cls, binding: Binding) -> Expected:
        """What a binding makes one expect; its memory policy only if that could be set."""
        memory = MemoryPolicy.NONE if binding.memory_error else binding.memory
        source = f"local rank {binding.local_rank}"
        return cls(binding.cpuset, binding.nodeset, memory, source, near_memory_nodes=binding.near_memory_nodes)

    @classmethod
    def recorded(cls, environment: Mapping[str, str]) -> Expected | None:
        """What `hwnuma exec` has recorded in a process's environment, or None if it did not start it."""
        if environment.get(BOUND_CPUS, "") == "":
            return None
        return cls(
            CpuSet(environment[BOUND_CPUS]),
            NodeSet(environment.get(BOUND_NODES, "")),
            MemoryPolicy(environment.get(BOUND_MEMORY) or "none"),
            f"hwnuma exec ({BOUND_CPUS} in its environment)",
        )


class ThreadState(Value):
    """A thread as it was found; `policy` is None where the kernel does not tell."""

    tid: int
    name: str
    cpuset: CpuSet
    policy: ThreadPolicy | None = None


class Drift(Value):
    """A thread that is not just where it should be."""

    tid: int
    name: str
    expected: CpuSet
    found: CpuSet

    @property
    def is_inside(self) -> bool:
        """Whether it is on some of the expected CPUs only, and on no others: somebody has pinned it there."""
        return self.found <= self.expected

    def __str__(self) -> str:
        how = "narrower than" if self.is_inside else "expected"
        return f"thread {self.tid} ({printable(self.name)}) is on CPUs {self.found}, {how} {self.expected}"


class MemoryDrift(Value):
    """A thread with another memory policy than expected."""

    tid: int
    name: str
    expected: str
    found: str


class Defeater(Value):
    """What defeats a binding that is as it should be (`hwnuma.processes.defeaters` has the rules).

    Attributes:
        name: which rule.
        weight: "off" if something is misplaced for certain, "warning", or "information".
        found: what was found, a sentence.
        remedy: what to do.
        of_machine: it is the same for every process.
    """

    name: str
    weight: str
    found: str
    remedy: str
    of_machine: bool = False


class Verification(Value):
    """What was found of one process.

    Attributes:
        pid: the process.
        name: its name.
        expected: where it should be.
        threads: all its threads.
        pages: where its memory is, or None if the kernel does not tell.
        exact: narrower threads count as off.
        notes: what could not be looked at, and why.
        defeaters: what around it defeats the binding, if that was asked.
    """

    pid: int
    name: str
    expected: Expected
    threads: tuple[ThreadState, ...]
    pages: Pages | None = None
    exact: bool = False
    notes: tuple[str, ...] = ()
    defeaters: tuple[Defeater, ...] = ()

    @property
    def drift(self) -> tuple[Drift, ...]:
        """The threads that are not just where they should be, those outside first."""
        drifts = [Drift(t.tid, t.name, self.expected.cpuset, t.cpuset) for t in self.threads if self._is_drift(t)]
        return tuple(sorted(drifts, key=lambda drift: (drift.is_inside, drift.tid)))

    def _is_drift(self, thread: ThreadState) -> bool:
        if self.expected.anywhere_within:
            return not thread.cpuset <= self.expected.cpuset
        return thread.cpuset != self.expected.cpuset

    @property
    def outside(self) -> tuple[Drift, ...]:
        """The threads that may run on CPUs where they should not."""
        return tuple(drift for drift in self.drift if not drift.is_inside)

    @property
    def unreached_cpuset(self) -> CpuSet:
        """Expected CPUs that none of the threads may run on."""
        if self.expected.anywhere_within:
            return CpuSet()
        return self.expected.cpuset - union(thread.cpuset for thread in self.threads)

    @property
    def memory_drift(self) -> tuple[MemoryDrift, ...]:
        """The threads with another memory policy than expected."""
        wanted = ThreadPolicy(self.expected.memory, self.expected.nodeset)
        if wanted.policy is MemoryPolicy.NONE:
            return ()
        return tuple(
            MemoryDrift(thread.tid, thread.name, str(wanted), str(thread.policy))
            for thread in self.threads
            if thread.policy is not None and not _is_as_wanted(thread.policy, wanted)
        )

    @property
    def remote_bytes(self) -> int:
        """How much of its private memory is on other nodes than expected; 0 if unknown, or if nothing is expected."""
        if self.pages is None or not self.expected.nodeset:
            return 0
        return self.pages.own_outside(self.expected.nodeset | self.expected.near_memory_nodes)

    @property
    def problems(self) -> tuple[str, ...]:
        """What is off, a clause each."""
        said = []
        outside, drift = self.outside, self.drift
        if outside:
            said.append(f"{len(outside)} of {len(self.threads)} threads may run outside CPUs {self.expected.cpuset}")
        elif self.unreached_cpuset:
            said.append(
                f"none of its threads may run on CPUs {self.unreached_cpuset}: somebody has narrowed the process"
            )
        if self.exact and len(drift) > len(outside):
            said.append(f"{len(drift) - len(outside)} threads are pinned to some of CPUs {self.expected.cpuset}")
        if self.memory_drift:
            wanted = ThreadPolicy(self.expected.memory, self.expected.nodeset)
            said.append(f"{len(self.memory_drift)} threads have another memory policy than {wanted}")
        if self.expected.memory is MemoryPolicy.BIND and self.remote_bytes:
            said.append(
                f"{self.remote_bytes / 2**20:.1f} MiB of its memory is not on NUMA nodes {self.expected.nodeset}"
            )
        said += [each.found for each in self.defeaters if each.weight == "off"]
        return tuple(said)

    @property
    def ok(self) -> bool:
        """Whether nothing is off."""
        return not self.problems


def _is_as_wanted(found: ThreadPolicy, wanted: ThreadPolicy) -> bool:
    # A preference for some of the nodes is one still: before Linux 5.15 only one can be preferred.
    some = found.policy is MemoryPolicy.PREFERRED and bool(found.nodeset) and found.nodeset <= wanted.nodeset
    return found.policy is wanted.policy and (found.nodeset == wanted.nodeset or some)


def verify(expected: Binding | CpuSet | None = None, pid: int | None = None, *, exact: bool = False) -> Verification:
    """Read back where the threads and the memory of a process are.

    Args:
        expected: a Binding, or CPUs; None for what `hwnuma exec` has recorded in the process's environment.
        pid: the process; None is this one.
        exact: count threads as off, too, that somebody has pinned to some of the expected CPUs.

    Returns:
        What was found, with `ok`, `problems`, and `drift`, thread by thread.

    Raises:
        OptionError: nothing says where the process should be.
        BindingError: the process cannot be looked at.
    """
    if isinstance(expected, Binding):
        return verify_process(pid, Expected.of(expected.check()), exact=exact)
    if isinstance(expected, CpuSet):
        return verify_process(pid, Expected(expected, source="given"), exact=exact)
    recorded = recorded_in(environment_of(os.getpid() if pid is None else pid))
    if recorded is None:
        raise OptionError(
            f"nothing says where process {os.getpid() if pid is None else pid} should be: hwnuma exec did not start it "
            f"({BOUND_CPUS} is not in its environment); give a Binding or a CpuSet"
        )
    return verify_process(pid, recorded, exact=exact)


def recorded_in(environment: ProcessEnvironment) -> Expected | None:
    """What `hwnuma exec` has recorded in a process's environment, or None if it did not start it.

    Raises:
        OptionError: the record makes no sense.
    """
    try:
        record = Expected.recorded(environment.variables)
        if record is not None and (record.cpuset.last >= _MOST_CPUS or record.nodeset.last >= _MOST_NODES):
            raise OptionError(f"Linux has at most {_MOST_CPUS} CPUs and {_MOST_NODES} nodes, and it names others")
    except OptionError as error:
        raise OptionError(f"what {BOUND_CPUS} and its like record in it makes no sense: {error}") from None
    if record is None or not environment.foreign:
        return record
    return replace(record, source=f"{BOUND_CPUS} in its environment, on its own word ({environment.foreign})")


def verify_process(pid: int | None, expected: Expected, *, exact: bool = False) -> Verification:
    """Read back one process; `verify` is the friendlier form.

    Raises:
        BindingError: there is no such process, or its threads cannot be looked at.
    """
    number = os.getpid() if pid is None else procfs.check_process_id(pid)
    notes: list[str] = []
    threads = tuple(_threads(number, expected))
    pages = _pages(number, notes) if expected.nodeset else None
    if expected.memory is not MemoryPolicy.NONE and any(thread.policy is None for thread in threads):
        notes.append("the memory policy was not verified: the kernel does not tell it (numa_maps)")
    return Verification(number, procfs.thread_name(number, number), expected, threads, pages, exact, tuple(notes))


def _threads(pid: int, expected: Expected) -> Iterable[ThreadState]:
    try:
        numbers = procfs.thread_ids(pid)
    except OSError as error:
        raise BindingError(error.errno, not_readable(pid, "task", error)) from None
    for tid in numbers:
        try:
            cpuset = procfs.affinity(tid)
        except ProcessLookupError:  # it has ended meanwhile
            continue
        except OSError as error:
            raise affinity_not_read(error, tid) from None
        policy = procfs.thread_policy(tid, pid) if expected.memory is not MemoryPolicy.NONE else None
        yield ThreadState(tid, procfs.thread_name(pid, tid), cpuset, policy)


def _pages(pid: int, notes: list[str]) -> Pages | None:
    try:
        return procfs.pages(pid)
    except OSError as error:
        notes.append(f"where its memory is was not verified: {not_readable(pid, 'numa_maps', error)}")
        return None


# ---- processes on GPUs ---------------------------------------------------------------------------------------


class GpuAudit(Value):
    """One process that is on GPUs, against where these are: with `verification`, or with `error`.

    Attributes:
        pid: as NVML tells it.
        gpus: those that it is on.
        nodeset: the NUMA nodes of these GPUs' CPUs.
        verification: what was found.
        error: why it cannot be verified.
    """

    pid: int
    gpus: tuple[Gpu, ...]
    nodeset: NodeSet = NodeSet()
    verification: Verification | None = None
    error: str = ""

    @property
    def ok(self) -> bool | None:
        """Whether nothing is off; None if it cannot be verified."""
        return None if self.verification is None else self.verification.ok


def audit_gpu_processes(
    machine: Machine,
    processes: Sequence[tuple[Gpu, int]],
    *,
    gpus: Sequence[Gpu] = (),
    mode: AffinityMode = AffinityMode.NODE,
    nccl_nodes: Mapping[str, int] | None = None,
) -> tuple[GpuAudit, ...]:
    """Verify that every process on a GPU has all its threads on the CPUs near that GPU.

    Args:
        machine: this system.
        processes: GPU and pid, from `hwnuma.devices.nvml.NvmlGpus.processes`.
        gpus: all the machine's GPUs, in index order, with the nodes that somebody states; by default the processes'.
        mode: near is the GPU's NUMA node, or with `socket` its package.
        nccl_nodes: NUMA node by PCI address, from an NCCL topology file.

    Returns:
        One audit a process, by pid.
    """
    everyone = list(gpus) or [gpu for gpu, _ in processes]
    places = {
        gpu.index: locality
        for gpu, locality in zip(everyone, locate(machine, everyone, nccl_nodes=nccl_nodes), strict=True)
    }
    by_pid: dict[int, list[Gpu]] = {}
    for gpu, pid in processes:
        by_pid.setdefault(pid, []).append(gpu)
    audits = []
    for pid, its_gpus in sorted(by_pid.items()):
        localities = [places[gpu.index] for gpu in its_gpus]
        wrong = next((locality.error for locality in localities if locality.error is not None), None)
        nodes = NodeSet(node.os_index for locality in localities for node in locality.nodes)
        audits.append(_audit(machine, pid, tuple(its_gpus), nodes, mode, wrong))
    return tuple(audits)


def _audit(
    machine: Machine, pid: int, gpus: tuple[Gpu, ...], nodes: NodeSet, mode: AffinityMode, wrong: PlanError | None
) -> GpuAudit:
    if wrong is not None:
        return GpuAudit(pid, gpus, nodes, error=str(wrong))
    cpuset, nodeset = _near(machine, nodes, mode)
    named = ", ".join(str(gpu) for gpu in gpus)
    expected = Expected(cpuset, nodeset, source=f"near {named}", anywhere_within=True)
    try:
        return GpuAudit(pid, gpus, nodes, verify_process(pid, expected))
    except BindingError as error:
        return GpuAudit(pid, gpus, nodes, error=error.strerror or str(error))


def _near(machine: Machine, nodes: NodeSet, mode: AffinityMode) -> tuple[CpuSet, NodeSet]:
    """The CPUs near these nodes, and the nodes of near memory, those without CPUs (a GPU's own memory) included."""
    cpuset = union(reach(machine, node, mode) for node in machine.cpu_nodes if node.os_index in nodes)
    return cpuset, NodeSet(node.os_index for node in machine.numa_nodes if not node.near_cpuset.isdisjoint(cpuset))
