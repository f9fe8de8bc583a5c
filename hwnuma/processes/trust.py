"""What another user's process may decide when it is looked at or bound: SECURITY.md as code.

Root verifies and binds everybody's processes, and where one should be is read from its environment, which its user
wrote. Numbers and lists in it are bounded where they are read. What is left is here: no file that it names is opened,
and what it records of its place is its own word.
"""

from __future__ import annotations

import os

from hwnuma.errors import BindingError, warn
from hwnuma.model.value import Value
from hwnuma.processes import procfs
from hwnuma.processes.refusals import not_readable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# Variables that name a file to read.
FILE_VARIABLES = ("NCCL_TOPO_FILE", "HWNUMA_NCCL_TOPO")


class ProcessEnvironment(Value):
    """The environment that a process was started with, as far as it counts.

    Attributes:
        pid: the process.
        variables: without those that name files, where the process is another user's.
        foreign: why it is another user's, a clause; "" for one of this user.
    """

    pid: int
    variables: Mapping[str, str]
    foreign: str = ""


def environment_of(pid: int) -> ProcessEnvironment:
    """Read the environment of a process; of another user's without what names files, which is said in a warning.

    Raises:
        BindingError: there is no such process, or its environment may not be read.
    """
    before = why_foreign(pid)
    try:
        variables = procfs.environment(pid)
    except OSError as error:
        raise BindingError(error.errno, not_readable(pid, "environ", error)) from None
    # Asked again: it may have become another program meanwhile, and what was read is still its user's.
    foreign = before or why_foreign(pid)
    named = [name for name in FILE_VARIABLES if variables.get(name)] if foreign else []
    if named:
        warn(
            f"the file that {' and '.join(named)} of process {pid} names is not read ({foreign}): give --nccl-topo "
            "FILE if it is to count"
        )
    return ProcessEnvironment(pid, {name: variables[name] for name in variables if name not in named}, foreign)


def why_foreign(pid: int) -> str:
    """Why the word of a process is another's and not this user's, a clause; "" if it is this user's.

    All its user ids have to be this process's: a program that runs as root for somebody else (set-user-ID) has that
    user's environment. And it has to see the same files: those of a container have the same names.
    """
    if pid == os.getpid():
        return ""
    users = (procfs.status(pid, "Uid") or "").split()
    if set(users) != {str(os.geteuid())}:
        return f"it is user {users[0]}'s" if users else "its user is not known"
    try:
        same_files = os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")  # noqa: PTH115 -- names
    except OSError:
        return "whether it sees the same files is not known"
    return "" if same_files else "it sees other files, as in a container"
