"""What a machine is, as one process hands it to another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from hwnuma.model.bitmap import CpuSet
from hwnuma.model.facts import Facts
from hwnuma.model.value import Value
from hwnuma.testing.nvml import FakeNvml


class State(Value):
    """What a machine is.

    Attributes:
        name: as it was asked for.
        folder: where its topology is (topology.xml), and what is recorded of it.
        facts: what was captured of it; empty ones of a topology without.
        nvml: what its driver tells, or None.
        affinity: the CPUs that the process was started with there.
        pynvml: whether `pynvml` sees the driver.
        os_affinity: whether `os.sched_getaffinity` and its like see the machine.
        variables: what is set in the environment.
    """

    FILE: ClassVar[str] = "machine.pickle"

    name: str
    folder: str
    facts: Facts
    nvml: FakeNvml | None
    affinity: CpuSet
    pynvml: bool
    os_affinity: bool
    variables: Mapping[str, str]
