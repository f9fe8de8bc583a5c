"""Pods as the kubelet and containerd make them, of cgroups and namespaces, and what hwnuma does in each.

A container gets its CPUs and memory nodes in its own cgroup (``cpuset.cpus``, ``cpuset.mems``), below a slice of its pod;
what is in it sees that cgroup as the root of all, ``/sys`` read-only, its own processes alone, and has no capability and
gets no new privileges, as the Pod Security Standard "restricted" wants it. (It is root without any of root's rights: the
files of this machine may be root's alone.) There is no kubelet: what it would write is written here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

Facts = dict[str, object]

_CGROUPS = Path("/sys/fs/cgroup")
# Names of the cgroup driver "systemd" and of containerd's CRI plugin.
_POD = "kubepods.slice/kubepods-pod1f0c7a52_4d8e_4b1c_9b3e_0a6f5d2c7e11.slice"
_CONTAINER = f"cri-containerd-{'5e' * 32}.scope"
_CONTROLLERS = "+cpuset +cpu +memory"
_HWNUMA = f"{sys.executable} -m hwnuma"

# From the cgroup that this shell is put into: namespaces of its own, /sys and its cgroups read-only, and no rights.
_ENTER = """
echo 0 > "$1/cgroup.procs" && shift || exit 125
exec unshare --cgroup --mount --pid --fork --mount-proc sh -c '
    mount -o remount,bind,ro /sys && umount -l /sys/fs/cgroup && mount -t cgroup2 -o ro cgroup2 /sys/fs/cgroup || exit 125
    exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
' sh "$@"
"""

# containerd's default seccomp profile allows these to who has CAP_SYS_NICE (contrib/seccomp/seccomp_default.go, 1.6).
_RUNTIME_DEFAULT = """
import os, sys
from tests.seccomp import deny
deny("set_mempolicy", "get_mempolicy", "mbind")
os.execvp(sys.argv[1], sys.argv[1:])
"""

_VERIFIED = """
{exec} -- sleep 600 & pid=$!
until [ "$(cat /proc/$pid/comm)" = sleep ]; do sleep 0.1; done
{hwnuma} verify --format json $pid; status=$?
kill $pid; exit $status
"""

_SHOW = "grep ^Cpus_allowed_list: /proc/self/status; cat /proc/self/numa_maps"


@dataclass(frozen=True)
class Pod:
    """What the kubelet gives a container.

    Attributes:
        cpus: ``cpuset.cpus``: of the CPU manager.
        mems: ``cpuset.mems``: of the Memory Manager.
        gpus: their addresses.
        quota: ``cpu.max``.
    """

    cpus: str
    mems: str
    gpus: Sequence[str]
    quota: str = "max 100000"


@contextmanager
def running(pod: Pod) -> Iterator[Path]:
    """The cgroup of a pod's container, for the length of a block."""
    slices = [_CGROUPS, _CGROUPS / Path(_POD).parent, _CGROUPS / _POD]
    for folder in slices:
        folder.mkdir(exist_ok=True)
        (folder / "cgroup.subtree_control").write_text(_CONTROLLERS)
    container = slices[-1] / _CONTAINER
    container.mkdir()
    (container / "cpuset.cpus").write_text(pod.cpus)
    (container / "cpuset.mems").write_text(pod.mems)
    (container / "cpu.max").write_text(pod.quota)
    try:
        yield container
    finally:
        (container / "cgroup.kill").write_text("1")
        while "populated 1" in (container / "cgroup.events").read_text():
            time.sleep(0.05)
        for folder in (container, *reversed(slices[1:])):
            folder.rmdir()


def _variables(pod: Pod, rank: int) -> dict[str, str]:
    told = {"HWNUMA_GPUS": ",".join(pod.gpus), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(len(pod.gpus))}
    return {**os.environ, **told}


def _inside(container: Path, script: str, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a shell's script in a pod."""
    command = ["sh", "-c", _ENTER, "sh", str(container), "sh", "-c", script]
    return subprocess.run(command, env=dict(variables), capture_output=True, text=True, check=False)


def _planned(pod: Pod, container: Path, *options: str) -> Facts:
    """What ``hwnuma plan`` says in the pod: each rank's CPUs, nodes and how its place is known, or the error's type."""
    done = _inside(container, f"{_HWNUMA} plan --format json {' '.join(options)}", _variables(pod, 0))
    if not done.stdout:
        raise RuntimeError(done.stderr)
    plan = json.loads(done.stdout)
    ranks = [
        [row["cpuset"], row["nodeset"], row["locality"]] if "error" not in row else row["error"]["type"]
        for row in plan["bindings"]
    ]
    return {"ranks": ranks, "warnings": plan["warnings"]}


def _executed(pod: Pod, container: Path, rank: int, options: str, *, before: str = "") -> Facts:
    """What a command that ``hwnuma exec`` starts in the pod has: its CPUs, and the nodes of its memory policies."""
    done = _inside(container, f"{before} {_HWNUMA} exec {options} -- sh -c '{_SHOW}'", _variables(pod, rank))
    lines = done.stdout.splitlines()
    policies = {line.split()[1] for line in lines[1:] if len(line.split()) > 1}
    return {
        "status": done.returncode,
        "cpus": lines[0].split()[1] if lines else "",
        "policies": sorted(policies),
        "said": done.stderr.splitlines(),
    }


def _verified(pod: Pod, container: Path, rank: int, options: str) -> Facts:
    """What ``hwnuma verify`` says in the pod of a command that ``hwnuma exec`` has started there."""
    script = _VERIFIED.format(exec=f"{_HWNUMA} exec {options}", hwnuma=_HWNUMA)
    done = _inside(container, script, _variables(pod, rank))
    return _of_verified(done)


def _of_verified(done: subprocess.CompletedProcess[str]) -> Facts:
    if not done.stdout:
        raise RuntimeError(done.stderr)
    (row,) = json.loads(done.stdout)["processes"]
    return {
        "status": done.returncode,
        "found": [each["found"] for each in row["drift"]],
        "defeaters": [each["name"] for each in row["defeaters"] if each["name"].startswith("cpuset")],
    }


def aligned(gpus: Sequence[str]) -> Facts:
    """CPUs, memory and the GPU of node 1: single-numa-node with the Memory Manager's policy Static."""
    pod = Pod("2-3,10-11", "1", gpus[1:2])
    before = f"{sys.executable} -c '{_RUNTIME_DEFAULT}'"
    with running(pod) as container:
        return {
            "plan": _planned(pod, container),
            "exec": _executed(pod, container, 0, "--memory bind"),
            "verify": _verified(pod, container, 0, "--memory bind"),
            "preferred, by RuntimeDefault": _executed(pod, container, 0, "--memory preferred", before=before),
            "bind, by RuntimeDefault": _executed(pod, container, 0, "--memory bind", before=before),
        }


def shrunk(gpus: Sequence[str]) -> Facts:
    """Four GPUs on four nodes, and CPUs of three: what kubernetes/kubernetes#139430 tells of."""
    pod = Pod("2-7,10-15", "0-3", gpus)
    options = "--mode exclusive"
    with running(pod) as container:
        return {
            "plan": _planned(pod, container, options),
            "nearest": _planned(pod, container, options, "--fallback", "nearest"),
            "exec 0": _executed(pod, container, 0, options),
            "exec 0 nearest": _executed(pod, container, 0, f"{options} --fallback nearest"),
            "exec 3 nearest": _executed(pod, container, 3, f"{options} --fallback nearest"),
            "verify 0 nearest": _verified(pod, container, 0, f"{options} --fallback nearest"),
        }


def far_memory(gpus: Sequence[str]) -> Facts:
    """CPUs and the GPU of node 1, and memory of node 0 alone."""
    pod = Pod("2-3,10-11", "0", gpus[1:2])
    with running(pod) as container:
        return {
            "plan": _planned(pod, container),
            "exec": _executed(pod, container, 0, ""),
            "preferred": _executed(pod, container, 0, "--memory preferred"),
            "bind": _executed(pod, container, 0, "--memory bind"),
            "verify": _verified(pod, container, 0, ""),
        }


def part_of_memory(gpus: Sequence[str]) -> Facts:
    """CPUs and GPUs of nodes 1 and 2, and memory of node 1 alone."""
    pod = Pod("2-5,10-13", "1", gpus[1:3])
    with running(pod) as container:
        return {"plan": _planned(pod, container), "plan socket": _planned(pod, container, "--mode", "socket")}


def shared_pool(gpus: Sequence[str]) -> Facts:
    """A pod of the shared pool, out of which the kubelet takes CPUs for another pod, and puts them back."""
    whole, smaller = "0-15", "0-2,4-10,12-15"
    pod = Pod(whole, "0-3", gpus[1:2], quota="200000 100000")
    with running(pod) as container:
        command = ["sh", "-c", _ENTER, "sh", str(container), "sh", "-c"]
        command.append(f"exec {_HWNUMA} exec -- sh -c 'echo ready; exec cat'")
        variables = _variables(pod, 0)
        with subprocess.Popen(command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as job:
            assert job.stdout is not None
            assert job.stdout.readline() == "ready\n"
            pids = (container / "cgroup.procs").read_text().split()
            (pid,) = [pid for pid in pids if _name_of(pid) == "cat"]
            facts: Facts = {"release": os.uname().release}
            for when, cpus in (("before", whole), ("taken", smaller), ("back", whole)):
                (container / "cpuset.cpus").write_text(cpus)
                # From the node, as root: what another user's process says of itself is its own word.
                done = subprocess.run(
                    [*_HWNUMA.split(), "verify", "--format", "json", pid], capture_output=True, text=True, check=False
                )
                facts[when] = _of_verified(done)
            job.kill()
    return facts


def _name_of(pid: str) -> str:
    """What a process is called, once it is what it is about to become."""
    end = time.monotonic() + 60
    while (name := Path(f"/proc/{pid}/comm").read_text().strip()) == "sh" and time.monotonic() < end:
        time.sleep(0.1)
        if len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            break
    return name


def pods(gpus: Sequence[str]) -> Facts:
    """All of them, one after the other."""
    cases = (aligned, shrunk, far_memory, part_of_memory, shared_pool)
    return {case.__name__: case(gpus) for case in cases}


if __name__ == "__main__":
    print(json.dumps(pods(sys.argv[1].split(",")), indent=1))
