"""Why the kernel refused: the errors of binding and reading, each with what was found and what can be done.

The kernel gives one number, EPERM mostly, for half a dozen reasons. What tells them apart is looked at here, once
something has failed.
"""

from __future__ import annotations

import errno
import os

from hwnuma.errors import BindingError
from hwnuma.processes import procfs

# linux/capability.h, linux/sched.h.
_CAP_SYS_PTRACE, _CAP_SYS_NICE = 19, 23
_KERNEL_THREAD = 0x00200000

_CAPABILITIES = {_CAP_SYS_PTRACE: "CAP_SYS_PTRACE", _CAP_SYS_NICE: "CAP_SYS_NICE"}


def no_such_process(pid: int) -> BindingError:
    """There is none to bind."""
    return BindingError(errno.ESRCH, f"there is no process {pid} to bind: it has ended, or is in another container")


def threads_not_listed(pid: int, error: OSError | None = None) -> BindingError:
    """Its threads cannot be listed, so that some of them would be left where they are."""
    if isinstance(error, PermissionError) or error is None:
        why = f"/proc does not show process {pid}: it may be mounted with hidepid, for its own user and root only"
    else:
        why = str(error.strerror)
    remedy = "; hwnuma exec needs no /proc" if pid == os.getpid() else ""
    return BindingError(
        errno.ENOENT if error is None else error.errno,
        f"process {pid} is not bound, since its threads cannot be listed and some would be left where they are: "
        f"{why}{remedy}",
    )


def affinity_not_read(error: OSError, thread: int) -> BindingError:
    """The affinity of a thread cannot be read."""
    code, text = error.errno, str(error.strerror)
    try:
        # libhwloc takes a denial for a mask that is too short, and asks with longer ones until memory is used up.
        os.sched_getaffinity(thread)
    except OSError as denied:
        code, text = denied.errno, f"sched_getaffinity of thread {thread}: {denied.strerror}"
    if code in (errno.EPERM, errno.EACCES, errno.ENOSYS):
        text += ": a seccomp profile or sandbox denies it, and has to allow it: no binding can be checked without"
    return BindingError(code, text)


def move_refused(error: OSError, thread: int, pid: int) -> BindingError:
    """A thread cannot be moved."""
    code = error.errno
    if code == errno.ESRCH:
        return BindingError(code, f"{error.strerror}: it has ended meanwhile")
    if code == errno.EPERM:
        why = _why_not_permitted(pid)
    elif _is_kernel_thread(pid):
        why = "it is one of the kernel's own threads, which the kernel lets nobody move"
    else:
        why = (
            "the kernel refused it; see that these CPUs are online and in the cgroup's cpuset "
            "(/sys/fs/cgroup/…/cpuset.cpus.effective), and that the container allows sched_setaffinity"
        )
    text = f"{error.strerror}: {why}"
    if pid != os.getpid():
        user = procfs.owner(pid)
        whose = f" of user {user}" if user not in (None, os.geteuid()) else ""
        text = f"process {pid}{whose}, thread {thread}: {text}"
    return BindingError(code, text)


def not_readable(pid: int, what: str, error: OSError) -> str:
    """Say why a file of a process in /proc cannot be read."""
    if isinstance(error, PermissionError):
        return f"/proc/{pid}/{what} may not be read: {_of_whom(pid, _CAP_SYS_PTRACE)}"
    if error.errno == errno.E2BIG:
        return str(error.strerror)
    if what == "numa_maps" and os.path.isdir(f"/proc/{pid}"):  # noqa: PTH112 -- only to word an error
        return f"there is no /proc/{pid}/{what}: this is a sandbox, or a kernel without NUMA"
    try:
        procfs.thread_ids()
    except OSError as missing:
        return f"process {pid} cannot be looked at: {missing.strerror}"
    return f"there is no process {pid} here: it has ended, or is in another container"


def _why_not_permitted(pid: int) -> str:
    """EPERM of sched_setaffinity (sched_setaffinity(2), and seccomp's usual answer)."""
    try:
        os.sched_setaffinity(0, os.sched_getaffinity(0))  # where it is already, which no kernel denies by itself
    except PermissionError:
        return (
            "sched_setaffinity is denied to this process even for itself: a container's seccomp profile or a sandbox "
            "does that, and has to allow it"
        )
    return _of_whom(pid, _CAP_SYS_NICE)


def _of_whom(pid: int, capability: int) -> str:
    """Whose right it is, and which part of that this process lacks."""
    name = _CAPABILITIES[capability]
    if os.geteuid() != 0:
        return f"that is for its own user, or for root with {name}"
    if not _has(capability):
        return (
            f"this root lacks {name}, which a container has to be given (Docker: --cap-add {name.removeprefix('CAP_')})"
        )
    if _in_another_user_namespace(pid):
        return "it is in another user namespace, where this root has no rights: do it from the host, or from there"
    return (
        f"this is root with {name}, so it is in another user namespace, or a security module forbids it (Landlock, "
        "SELinux, AppArmor): do it from the host, or outside that sandbox"
    )


def _has(capability: int) -> bool:
    effective = procfs.status(None, "CapEff")
    return effective is None or bool(int(effective, 16) >> capability & 1)


def _in_another_user_namespace(pid: int) -> bool:
    """Whether it surely is; who has no rights over a process cannot see its namespaces either."""
    try:
        return os.readlink("/proc/self/ns/user") != os.readlink(f"/proc/{pid}/ns/user")  # noqa: PTH115 -- a name only
    except OSError:
        return False


def _is_kernel_thread(pid: int) -> bool:
    return bool((procfs.flags(pid) or 0) & _KERNEL_THREAD)
