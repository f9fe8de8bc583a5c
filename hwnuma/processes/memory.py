"""The memory half of a binding: set a policy and read it back, say where pages are, migrate them.

What fails here and may be missing is a warning; the CPUs are bound all the same.
"""

from __future__ import annotations

import errno
import os
from _thread import get_native_id

from hwnuma.errors import BindingError, HwlocError, inform, warn
from hwnuma.hwloc.mempolicy import migrate_pages, restore_policy, save_policy
from hwnuma.model.numbers import size_text
from hwnuma.model.options import MemoryPolicy
from hwnuma.model.value import replace
from hwnuma.processes import procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from hwnuma.hwloc.topology import Topology
    from hwnuma.model.plan import Binding
    from hwnuma.processes.binding import Applied


def apply_memory(topology: Topology, applied: Applied, *, migrate: bool, look_at_pages: bool) -> None:
    """Set the memory policy, if one is asked for, and migrate; what fails and may be missing is a warning.

    Args:
        topology: this system's.
        applied: what is bound, and the record of it.
        migrate: move memory that is already allocated on other nodes to the binding's nodes.
        look_at_pages: say how much memory is on other nodes.

    Raises:
        BindingError: the policy is `bind` and cannot be set.
    """
    binding = applied.binding
    if binding.memory is not MemoryPolicy.NONE:
        error = _set_policy(topology, applied) if applied.is_own else _not_from_outside(binding, applied.pid)
        if error is not None and binding.memory is MemoryPolicy.BIND:
            raise error
        if error is not None:
            applied.binding = replace(binding, memory_error=error)
            applied.warnings += (
                f"CPUs {binding.cpuset} are bound, but the memory policy is not set: {error.strerror}",
            )
        elif binding.memory is MemoryPolicy.BIND:
            applied.warnings += tuple(nearly_full(filter(None, map(procfs.node_memory, binding.nodeset))))
    if look_at_pages and binding.nodeset:
        if applied.is_own and binding.memory is not MemoryPolicy.NONE:
            applied.warnings += _other_threads()
        _look_at_pages(applied, migrate=migrate)


def put_policy_back(applied: Applied) -> None:
    """Give the thread that bound its former memory policy back; no other thread can.

    Args:
        applied: what was bound, with the thread and its former policy.
    """
    if applied.policy is None:
        return
    thread, former = applied.policy
    if thread != get_native_id():
        warn(
            f"thread {thread} keeps memory policy {applied.binding.memory}: a thread alone can set its own, and "
            "another one has ended the block"
        )
        return
    try:
        restore_policy(former)
    except HwlocError as error:
        warn(f"the memory policy of thread {thread} could not be put back: {error.strerror}")
    applied.policy = None


def _set_policy(topology: Topology, applied: Applied) -> BindingError | None:
    """Set the calling thread's policy and read it back; on an error the policy is as it was."""
    binding = applied.binding
    what = f"memory policy {binding.memory} on NUMA nodes {binding.nodeset or 'none'}"
    if not binding.nodeset:
        return BindingError(
            errno.EINVAL,
            f"memory policy {binding.memory}: no memory of the nodes of CPUs {binding.cpuset} may be used, but that of "
            f"NUMA nodes {_allowed_text()} (cpuset.mems): ask the scheduler for memory of the nodes of the CPUs",
        )
    try:
        applied.policy = (get_native_id(), save_policy())  # ahead of the change: an interrupt may come between the two
        topology.set_membind(binding.nodeset, binding.memory)
        policies, found = topology.get_membind()
    except HwlocError as error:
        _take_back(applied)
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
    _take_back(applied)
    shown = " or ".join(sorted(map(str, policies)))
    return BindingError(
        errno.EINVAL,
        f"{what}: reading back gave {shown} on NUMA nodes {found or 'none'}: the kernel cuts it to the nodes that the "
        f"cgroup allows ({_allowed_text()}); ask the scheduler for memory there, or plan again",
    )


def _take_back(applied: Applied) -> None:
    """Put the policy back that could not be changed as a whole; where even that is denied, nothing has changed."""
    saved, applied.policy = applied.policy, None
    try:
        if saved is not None:
            restore_policy(saved[1])
    except HwlocError:
        return


def _memory_remedy(code: int | None) -> str:
    if code in (errno.EPERM, errno.ENOSYS, errno.EACCES):
        return (
            "a seccomp profile or sandbox denies set_mempolicy: give the container CAP_SYS_NICE or a profile that "
            "allows it (Docker: --cap-add SYS_NICE; Kubernetes: capabilities.add: [SYS_NICE]); without a policy, pages "
            "still come from the node of the CPU that touches them"
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
        f"NUMA node {memory.node} has {size_text(memory.free)} free (and {size_text(memory.reclaimable)} in file "
        f"pages) of {size_text(memory.total)}: with memory policy bind the kernel kills the process when that is used "
        "up; preferred takes other nodes' memory then"
        for memory in nodes
        if memory.is_nearly_full
    ]


def _other_threads() -> tuple[str, ...]:
    others = len(procfs.thread_ids()) - 1
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
        inform(
            f"migrated: {_share(remote, before)} was on other nodes, {size_text(after.own_outside(nodeset))} still is"
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
    return f"{size_text(part)} ({percent} %, {number} pages) of the {size_text(pages.own_total)} allocated"
