"""An sshd on the loopback interface that answers as several hosts, for `ssh` and for `pdsh`."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from tests.launchers.slurm import free_port
from tests.require import require

LIMIT = 30.0  # seconds until it has to listen

# Each of these is this machine, in a UTS namespace of that name.
HOSTS = ("node001", "node002", "node003", "node004")
_CLIENT = """\
Host {host}
  HostName 127.0.0.1
  Port {port}
  IdentityFile {folder}/key
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
  SetEnv HOST_ASKED={host}
"""
_SERVER = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/key
AuthorizedKeysFile {folder}/key.pub
PidFile none
StrictModes no
PermitRootLogin yes
UsePAM no
AcceptEnv HOST_ASKED
ForceCommand cd {folder_of_job} && PATH={path} exec unshare --uts sh -c 'hostname "$HOST_ASKED" && eval "$SSH_ORIGINAL_COMMAND"'
"""


class Ssh:
    """The daemon, as long as the block lasts.

    Attributes:
        variables: an environment in which ssh and pdsh reach it.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str], folder_of_job: Path) -> None:
        """Prepare it.

        Args:
            folder: for its key and configuration.
            variables: the environment of whoever asks; commands there have its PATH.
            folder_of_job: where commands run there: a file system that all hosts share.
        """
        for program in ("ssh", "ssh-keygen", "pdsh", "unshare"):
            require(shutil.which(program), f"{program} is not installed (Debian's openssh-client, pdsh, util-linux)")
        require(Path("/usr/sbin/sshd").exists(), "sshd (Debian's openssh-server) is not installed")
        self.folder, self.port = folder, free_port()
        (folder / "home" / ".ssh").mkdir(parents=True)
        subprocess.run(["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", folder / "key"], check=True)
        told = {"port": self.port, "folder": folder, "folder_of_job": folder_of_job, "path": variables["PATH"]}
        (folder / "sshd_config").write_text(_SERVER.format(**told))
        (folder / "ssh_config").write_text("".join(_CLIENT.format(host=host, **told) for host in HOSTS))
        programs = folder / "programs"
        programs.mkdir()
        ssh = (
            programs / "ssh"
        )  # ssh reads its configuration in the home folder of the password file, whatever HOME says
        ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/ssh_config "$@"\n')
        ssh.chmod(0o755)
        path = f"{programs}{os.pathsep}{variables['PATH']}"
        self.variables = {**variables, "PATH": path, "PDSH_RCMD_TYPE": "ssh"}

    def __enter__(self) -> Ssh:
        """Start it, and wait until it listens."""
        Path("/run/sshd").mkdir(exist_ok=True)
        command = ["/usr/sbin/sshd", "-D", "-e", "-f", str(self.folder / "sshd_config")]
        with (self.folder / "log").open("wb") as log:
            self._daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + LIMIT
        while not self._listens():
            assert self._daemon.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < end, (self.folder / "log").read_text()
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self._daemon.terminate()
        self._daemon.wait(LIMIT)

    def _listens(self) -> bool:
        with socket.socket() as asking:
            return asking.connect_ex(("127.0.0.1", self.port)) == 0
