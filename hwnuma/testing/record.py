"""What would have been bound and executed, written down line by line, by this process and by those that it starts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from hwnuma.model.bitmap import CpuSet, NodeSet
from hwnuma.model.options import MemoryPolicy
from hwnuma.model.value import Value


class Bound(Value):
    """A process or a thread that would have been bound.

    Attributes:
        pid: the process.
        thread: the thread that led, by the kernel's number: a process's main one, or the one that called.
        cpus: the CPUs.
        local_rank: the rank, where it is known: from the plan, or from what a launcher says in the environment.
        gpu: the PCI address of the rank's GPU, or None.
        memory: the memory policy that was set.
        nodes: its NUMA nodes; with the default policy, those of the CPUs where the plan tells.
        threads: all threads that were moved.
        by: what did it: "hwnuma", "os.sched_setaffinity" or "nvmlDeviceSetCpuAffinity".
    """

    pid: int
    thread: int
    cpus: CpuSet
    local_rank: int | None = None
    gpu: str | None = None
    memory: MemoryPolicy = MemoryPolicy.NONE
    nodes: NodeSet = NodeSet()
    threads: tuple[int, ...] = ()
    by: str = "hwnuma"


class Executed(Value):
    """A command that a process would have become.

    Attributes:
        pid: the process.
        command: its words.
        cpus: the CPUs that it would have run on.
        environment: its variables.
    """

    pid: int
    command: tuple[str, ...]
    cpus: CpuSet
    environment: dict[str, str]


class Record:
    """The lines of one machine, in the order in which they were written; several processes may write and read."""

    def __init__(self, file: Path) -> None:
        """Name the file, which need not be there yet."""
        self.file = file
        self._read_to = 0
        self._affinities: dict[int, CpuSet] = {}
        self._policies: dict[int, tuple[MemoryPolicy, NodeSet]] = {}
        self._bound: list[Bound] = []
        self._executed: list[Executed] = []

    def write(self, kind: str, **what: Any) -> None:
        """Add a line; one write to a file that is open for appending is whole, whoever else writes."""
        line = json.dumps({"kind": kind, **what}).encode() + b"\n"
        descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)

    def bound(self, what: Bound) -> None:
        """Write down a binding."""
        self.write(
            "bound",
            **{name: getattr(what, name) for name in ("pid", "thread", "local_rank", "gpu", "by")},
            cpus=str(what.cpus),
            memory=what.memory.value,
            nodes=str(what.nodes),
            threads=list(what.threads),
        )

    def all_bound(self) -> list[Bound]:
        """All bindings so far."""
        self._catch_up()
        return list(self._bound)

    def all_executed(self) -> list[Executed]:
        """All commands so far."""
        self._catch_up()
        return list(self._executed)

    def affinity(self, thread: int) -> CpuSet | None:
        """The CPUs that a thread was put on last; None for one that never was."""
        self._catch_up()
        return self._affinities.get(thread)

    def policy(self, thread: int) -> tuple[MemoryPolicy, NodeSet] | None:
        """The memory policy that a thread was given last; None for one that never was."""
        self._catch_up()
        return self._policies.get(thread)

    def _catch_up(self) -> None:
        try:
            with self.file.open("rb") as file:
                file.seek(self._read_to)
                content = file.read()
        except FileNotFoundError:
            return
        whole, _, _ = content.rpartition(b"\n")
        self._read_to += len(whole) + 1 if whole else 0
        for line in whole.splitlines():
            self._take(json.loads(line))

    def _take(self, line: dict[str, Any]) -> None:
        kind = line.pop("kind")
        if kind == "affinity":
            self._affinities[line["thread"]] = CpuSet(line["cpus"])
        elif kind == "policy":
            self._policies[line["thread"]] = MemoryPolicy(line["memory"]), NodeSet(line["nodes"])
        elif kind == "bound":
            sets = {"cpus": CpuSet(line["cpus"]), "nodes": NodeSet(line["nodes"]), "threads": tuple(line["threads"])}
            self._bound.append(Bound(**{**line, **sets, "memory": MemoryPolicy(line["memory"])}))
        elif kind == "executed":
            self._executed.append(
                Executed(line["pid"], tuple(line["command"]), CpuSet(line["cpus"]), line["environment"])
            )
