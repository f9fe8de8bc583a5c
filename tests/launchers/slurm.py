"""A Slurm of one node or several on the loopback interface: munged, slurmctld, and a slurmd for each node."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

LIMIT = 60.0  # seconds until a daemon has to be ready
PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "scontrol", "sinfo")
NODE = "localhost"

# Only what a single node needs. task/affinity binds tasks as `--cpu-bind` says; the processes of a step are found by
# their parents, so that no cgroup has to be writable.
CONFIGURATION = """
ClusterName=hwnuma
SlurmctldHost={controller}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
MpiDefault=none
SlurmctldPort={controller_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
JobAcctGatherType=jobacct_gather/none
SchedulerType=sched/builtin
SelectType=select/cons_tres
GresTypes=gpu
SelectTypeParameters={select}
KillWait=5
ReturnToService=2
{nodes}
PartitionName=all Nodes={names} Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
"""


def program(name: str) -> str | None:
    """A program's path; daemons are in sbin, which is not in everybody's PATH."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin")))


def missing() -> str:
    """What keeps Slurm from running here; "" if nothing does."""
    absent = [name for name in PROGRAMS if program(name) is None]
    if absent:
        return f"{', '.join(absent)} (Debian's slurm-wlm and munge) are not installed"
    return "" if os.geteuid() == 0 else "slurmd starts tasks for others, so the test needs root"


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


class OneNodeSlurm:
    """The daemons and their files, in a folder of their own."""

    def __init__(self, folder: Path, nodes: Sequence[str] = (NODE,), hardware: str = "", cgroup: str = "") -> None:
        """Prepare to start in a folder.

        Args:
            folder: for all files.
            nodes: their names. Other ones than `NODE` are this machine in a UTS namespace, where it is called so.
            hardware: the sockets, cores and threads of each, as ``slurmd -C`` prints them, of which cores are given out;
                by default Slurm knows of CPUs alone, and gives those out.
            cgroup: the lines of cgroup.conf.
        """
        self.folder = folder
        self.nodes = nodes
        self.hardware = hardware
        self.cgroup = cgroup
        self.daemons: list[subprocess.Popen[bytes]] = []

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """An environment in which Slurm's commands find this one."""
        kept = {name: value for name, value in base.items() if not name.startswith(("SLURM_", "SBATCH_", "SRUN_"))}
        return {**kept, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def start(self) -> None:
        """Start the daemons, each in the foreground as a child, and wait until the node takes jobs."""
        for name in ("state", *(f"spool-{node}" for node in self.nodes)):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(1024))
        hardware = self.hardware or f"CPUs={os.cpu_count()}"
        nodes = [f"NodeName={node} NodeAddr=127.0.0.1 Port={free_port()} {hardware} Gres=gpu:2" for node in self.nodes]
        names, port = ",".join(self.nodes), free_port()
        (self.folder / "slurm.conf").write_text(
            CONFIGURATION.format(
                folder=self.folder,
                controller=NODE,
                names=names,
                controller_port=port,
                nodes="\n".join(nodes),
                select="CR_Core" if self.hardware else "CR_CPU",
            )
        )
        # In the books alone: what stands for a GPU is a file, and nothing is given or kept back.
        for number in range(2):
            (self.folder / f"gpu{number}").touch()
        (self.folder / "gres.conf").write_text(f"Name=gpu File={self.folder}/gpu[0-1]\n")
        (self.folder / "cgroup.conf").write_text(self.cgroup)
        folder = self.folder
        # --force: the folder of a test is not as closed as munge wants a socket's to be.
        self._daemon(
            "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket",
            f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log", f"--seed-file={folder}/munge.seed",
        )  # fmt: skip
        self._until(lambda: (folder / "munge.socket").exists(), "munged has a socket")
        self._daemon("slurmctld", "-D")
        self._until(lambda: "is UP" in self._asked("scontrol", "ping"), "slurmctld answers")
        for node in self.nodes:
            self._daemon("slurmd", "-D", "-N", node, called="" if node == NODE else node)
        self._until(
            lambda: self._asked("sinfo", "--noheader", "--format=%T %D") == f"idle {len(self.nodes)}",
            "the nodes are idle",
        )

    def stop(self) -> None:
        """End the daemons, the last one first, and wait for them."""
        for daemon in reversed(self.daemons):
            daemon.terminate()
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            if daemon.poll() is None:
                daemon.kill()
                daemon.wait()

    def _daemon(self, name: str, *arguments: str, called: str = "") -> None:
        """Start a daemon; on a machine that is called otherwise, if that is asked for."""
        command, variables = [program(name) or name, *arguments], self.environment(os.environ)
        if called:
            command = ["unshare", "--uts", "sh", "-c", f'hostname {called} && exec "$@"', "sh", *command]
        with (self.folder / f"{name}{called}.output").open("wb") as output:
            self.daemons.append(
                subprocess.Popen(command, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            )

    def _asked(self, *command: str) -> str:
        variables = self.environment(os.environ)
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=LIMIT, check=False)
        return done.stdout.strip()

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something holds, while all daemons live."""
        end = time.monotonic() + LIMIT
        while not condition():
            dead = [daemon.args for daemon in self.daemons if daemon.poll() is not None]
            if dead or time.monotonic() > end:
                raise RuntimeError(f"in vain: {what}; ended: {dead or 'none'}\n{self.logs()}")
            time.sleep(0.05)

    def logs(self) -> str:
        """The ends of what the daemons wrote, for a message."""
        files = sorted([*self.folder.glob("*.log"), *self.folder.glob("*.output")])
        return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')[-2000:]}" for file in files)
