"""What defeats a binding though it is as it should be: a table of rules, each with its reason and its remedy.

A rule that counts makes a `Defeater` of a verification. Only one that makes misplacement certain is off; the others are
told. All is pure but for the last section, which reads what the rules are about (`hwnuma.processes.conditions`).
"""

from __future__ import annotations

import os

from hwnuma.model.bitmap import CpuSet, NodeSet
from hwnuma.model.characters import excerpt
from hwnuma.model.choice import Choice
from hwnuma.model.numbers import size_text
from hwnuma.model.options import MemoryPolicy
from hwnuma.model.value import Value, replace
from hwnuma.processes.conditions import Conditions, read_conditions
from hwnuma.processes.verification import Defeater, Expected, Verification

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from hwnuma.model.plan import Binding
    from hwnuma.processes.verification import GpuAudit, ThreadState

# Threads of NCCL are named so (NVIDIA/nccl: src/proxy.cc, ncclSetThreadName).
_NCCL = "NCCL"

_MORE_THAN_ONE = 2

# What a list in another user's environment may cost; Linux cannot be built for more CPUs (NR_CPUS with MAXSMP).
_LONGEST_LIST, _CPUS = 1024, CpuSet.from_mask((1 << 8192) - 1)


class Weight(Choice):
    """How much a defeater counts."""

    OFF = "off"
    """Something is misplaced for certain: the process counts as off."""

    WARNING = "warning"
    """It costs time or moves memory, now or later."""

    INFORMATION = "information"
    """It is common and harmless mostly; it is told for whoever looks for a reason."""


class Rule(Value):
    """One thing that defeats bindings.

    Attributes:
        name: its key in the JSON.
        weight: what it is if it counts.
        where: what it is read from.
        counts: from a verification and its conditions to what was found, a sentence; "" if it does not count.
        remedy: what to do.
        source: where the knowledge is from.
        of_machine: it is the same for all processes.
    """

    name: str
    weight: Weight
    where: str
    counts: Callable[[Verification, Conditions], str]
    remedy: str
    source: str
    of_machine: bool = False


# ---- when each counts ----------------------------------------------------------------------------------------


def _numa_balancing(found: Verification, around: Conditions) -> str:
    setting = around.settings.numa_balancing
    # task_numa_work leaves mappings alone whose policy is somebody's own (kernel/sched/fair.c, vma_policy_mof).
    has_policy = found.expected.memory is not MemoryPolicy.NONE and not found.memory_drift
    if not setting or len(around.nodes) < _MORE_THAN_ONE or has_policy:
        return ""
    return (
        f"kernel.numa_balancing is {setting}: the kernel unmaps pages again and again to see who uses them, which "
        "stalls a thread for up to 16 ms each time, and moves memory that you have placed"
    )


def _zone_reclaim(_found: Verification, around: Conditions) -> str:
    setting = around.settings.zone_reclaim_mode
    if not setting or len(around.nodes) < _MORE_THAN_ONE:
        return ""
    return (
        f"vm.zone_reclaim_mode is {setting}: when a node is full, the thread that allocates waits for its file pages "
        "to be dropped before another node's memory is taken"
    )


def _nearly_full(found: Verification, around: Conditions) -> str:
    full = [memory for memory in around.home_memory if memory.is_nearly_full]
    if not full:
        return ""
    told = ", ".join(f"node {each.node} has {size_text(each.free)} free of {size_text(each.total)}" for each in full)
    remote = f"; {size_text(found.remote_bytes)} of its own memory is elsewhere" if found.remote_bytes else ""
    return f"near memory is nearly full, and what comes next is from another node: {told}{remote}"


def _pinned_elsewhere(found: Verification, around: Conditions) -> str:
    if around.pinned is None or len(around.nodes) < _MORE_THAN_ONE or not around.near:
        return ""
    remote = around.pinned.outside(around.near)
    devices = min(around.pinned.elsewhere, found.remote_bytes)
    if remote:
        return f"{size_text(remote)} of locked or pinned memory is not on NUMA nodes {around.near}, and cannot be moved"
    if devices:
        return (
            f"devices have pinned {size_text(around.pinned.elsewhere)}, and up to {size_text(devices)} of that is not "
            f"on NUMA nodes {around.near}: the kernel does not tell which"
        )
    return ""


def _huge_pages(_found: Verification, around: Conditions) -> str:
    settings = around.settings
    if settings.huge_pages != "always" or len(around.nodes) < _MORE_THAN_ONE:
        return ""
    stall = (
        ", and with defrag=always a thread waits while the near node is compacted to make one"
        if settings.huge_pages_defrag == "always"
        else ""
    )
    return (
        "transparent huge pages are always on, which is mostly good: but memory is placed 2 MiB at a time, by whoever "
        f"touches the first byte{stall}"
    )


def _threads_elsewhere(found: Verification, around: Conditions) -> str:
    outside = {drift.tid for drift in found.outside}
    threads = [thread for thread in found.threads if thread.tid in outside]
    if not threads:
        return ""
    nccl = [thread for thread in threads if thread.name.startswith(_NCCL)]
    others = [thread for thread in threads if thread not in nccl and thread.tid != found.pid]
    openmp = _pinned_by_openmp(others, around.variables)
    told = [f"{len(nccl)} threads of NCCL"] if nccl else []
    told += [f"{len(others)} threads, probably of OpenMP ({openmp})"] if openmp else []
    return f"a library has pinned threads elsewhere: {' and '.join(told)}" if told else ""


def _pinned_by_openmp(threads: list[ThreadState], variables: Mapping[str, str]) -> str:
    """The variable by which OpenMP has been told where these threads go, if it has."""
    said = {name: text for name, text in variables.items() if not name.startswith(_NCCL)}
    said = {name: text for name, text in said.items() if text.lower() not in ("false", "none", "disabled")}
    return ", ".join(f"{name}={excerpt(text)}" for name, text in said.items()) if threads else ""


def _nccl_ignores_affinity(_found: Verification, around: Conditions) -> str:
    value = around.variables.get("NCCL_IGNORE_CPU_AFFINITY", "0")
    if value == "0":
        return ""
    said = f"NCCL_IGNORE_CPU_AFFINITY is {excerpt(value)}"
    return f"{said}: NCCL's threads go by the GPU alone, wherever the process is bound"


def _openmp_list(found: Verification, around: Conditions) -> str:
    """A list of CPUs for libgomp that is not the binding's: threads are pinned out of it as soon as there are any."""
    text = around.variables.get("GOMP_CPU_AFFINITY", "")
    listed = _gomp_cpus(text)
    beyond = listed - found.expected.cpuset
    if not beyond:
        return ""
    return f"GOMP_CPU_AFFINITY={excerpt(text)} names CPUs {beyond}, which are not among its own"


def _gomp_cpus(text: str) -> CpuSet:
    """The CPUs of GOMP_CPU_AFFINITY (``0 3 1-2 4-15:2``: blanks or commas between, a stride after a colon).

    It may be another user's: none where it is longer than anybody writes, or makes no sense.
    """
    members = CpuSet()
    for piece in text.replace(",", " ").split() if len(text) <= _LONGEST_LIST else ():
        cpus, _, stride = piece.partition(":")
        try:
            members |= CpuSet(list(CpuSet(cpus) & _CPUS)[:: int(stride)]) if stride else CpuSet(cpus)
        except ValueError:
            return CpuSet()
    return members


def _no_near_memory(_found: Verification, around: Conditions) -> str:
    missing = _forbidden(around)
    if not missing or missing != around.home:
        return ""
    return _cpuset_mems_text(around)


def _some_near_memory(_found: Verification, around: Conditions) -> str:
    missing = _forbidden(around)
    return _cpuset_mems_text(around) if missing and missing != around.home else ""


def _forbidden(around: Conditions) -> NodeSet:
    return NodeSet() if around.allowed is None else around.home - around.allowed


def _cpuset_mems_text(around: Conditions) -> str:
    return (
        f"it may have memory of NUMA nodes {around.allowed} only (cpuset.mems), and its CPUs are those of "
        f"{around.home}: memory of {_forbidden(around)} is not to be had"
    )


# ---- the table -----------------------------------------------------------------------------------------------

_CPUSET_REMEDY = (
    "give the container the memory of the node of its CPUs: docker run --cpuset-mems, Kubernetes' Memory Manager with "
    "policy Static, Slurm's ConstrainRAMSpace with the CPUs of one node"
)

RULES = (
    Rule(
        "cpuset_mems",
        Weight.OFF,
        "/proc/PID/status, Mems_allowed_list",
        _no_near_memory,
        _CPUSET_REMEDY,
        "cpuset(7)",
    ),
    Rule(
        "cpuset_mems_part",
        Weight.WARNING,
        "/proc/PID/status, Mems_allowed_list",
        _some_near_memory,
        _CPUSET_REMEDY,
        "cpuset(7)",
    ),
    Rule(
        "threads_pinned",
        Weight.WARNING,
        "threads' affinities and names, /proc/PID/environ",
        _threads_elsewhere,
        "bind before the library starts its threads (hwnuma exec), and unset the variable, or let hwnuma exec --omp "
        "set OpenMP's; hwnuma bind --all-threads moves threads that run already",
        "libgomp's manual, Environment Variables; NVIDIA/nccl: src/proxy.cc",
    ),
    Rule(
        "nccl_ignores_affinity",
        Weight.WARNING,
        "/proc/PID/environ",
        _nccl_ignores_affinity,
        "unset NCCL_IGNORE_CPU_AFFINITY: NCCL then keeps to the CPUs of the process that are near the GPU",
        "NCCL's manual, Environment Variables",
    ),
    Rule(
        "openmp_list",
        Weight.WARNING,
        "/proc/PID/environ",
        _openmp_list,
        "unset GOMP_CPU_AFFINITY, and let hwnuma exec --omp say the places",
        "libgomp's manual, GOMP_CPU_AFFINITY",
    ),
    Rule(
        "pinned_elsewhere",
        Weight.WARNING,
        "/proc/PID/status (VmLck, VmPin), smaps and numa_maps",
        _pinned_elsewhere,
        "bind before memory is pinned (hwnuma exec), and start the process anew: pinned pages stay. Where one process "
        "drives GPUs of several nodes, PyTorch hands a freed pinned block to whoever asks next: use a process a GPU",
        "pytorch/pytorch#197868, #160420; MakazhanAlpamys/Soup#655",
    ),
    Rule(
        "node_nearly_full",
        Weight.WARNING,
        "/sys/devices/system/node/nodeN/meminfo",
        _nearly_full,
        "free memory there (page cache: sync; echo 1 > /proc/sys/vm/drop_caches), or start fewer ranks a node",
        "Linux, Documentation/admin-guide/mm/numaperf.rst and numa_memory_policy.rst",
    ),
    Rule(
        "numa_balancing",
        Weight.WARNING,
        "/proc/sys/kernel/numa_balancing",
        _numa_balancing,
        "sysctl kernel.numa_balancing=0; or give the process a memory policy (hwnuma exec --memory bind), whose memory "
        "the kernel's scan leaves alone",
        "deepseek-ai/DeepEP#624; Linux: kernel/sched/fair.c task_numa_work, mm/mempolicy.c vma_policy_mof",
        of_machine=True,
    ),
    Rule(
        "zone_reclaim_mode",
        Weight.WARNING,
        "/proc/sys/vm/zone_reclaim_mode",
        _zone_reclaim,
        "sysctl vm.zone_reclaim_mode=0",
        "Linux, Documentation/admin-guide/sysctl/vm.rst",
        of_machine=True,
    ),
    Rule(
        "transparent_huge_pages",
        Weight.INFORMATION,
        "/sys/kernel/mm/transparent_hugepage/enabled and defrag",
        _huge_pages,
        "nothing, unless allocations stall or memory is elsewhere: then echo madvise into enabled and defrag",
        "Linux, Documentation/admin-guide/mm/transhuge.rst",
        of_machine=True,
    ),
)


def defeaters(found: Verification, around: Conditions) -> tuple[Defeater, ...]:
    """What defeats the binding of a process that was read back, in the order of `RULES`.

    Args:
        found: the process.
        around: what is around it.
    """
    said = [(rule, rule.counts(found, around)) for rule in RULES]
    return tuple(
        Defeater(rule.name, str(rule.weight), sentence, rule.remedy, of_machine=rule.of_machine)
        for rule, sentence in said
        if sentence
    )


# ---- of processes --------------------------------------------------------------------------------------------


def with_defeaters(found: Verification) -> Verification:
    """The same verification, with what defeats the binding of its process.

    Args:
        found: the process, as it was read back just now.
    """
    return replace(found, defeaters=defeaters(found, read_conditions(found.pid, found.expected)))


def audits_with_defeaters(audits: Iterable[GpuAudit]) -> tuple[GpuAudit, ...]:
    """The same audits, each with what defeats the binding of its process."""
    return tuple(
        audit if audit.verification is None else replace(audit, verification=with_defeaters(audit.verification))
        for audit in audits
    )


def line_of_binding(binding: Binding, variables: Mapping[str, str]) -> str:
    """One line of what may defeat this process's binding as it becomes a command; "" if nothing is known to.

    Args:
        binding: what it is bound to.
        variables: the command's environment.
    """
    found = Verification(os.getpid(), "", Expected.of(binding), ())
    around = read_conditions(found.pid, found.expected, variables)
    names = [each.name for each in defeaters(found, around) if each.weight != Weight.INFORMATION]
    return f"may be defeated by {', '.join(names)}: hwnuma verify says why, and what to do" if names else ""
