"""User code with a mistake a line, which mypy --strict and pyright both refuse: an ignore that is not needed is an error.

It is not run.
"""

from __future__ import annotations

import hwnuma
from hwnuma import AffinityMode, Binding, CpuSet, MemoryPolicy, NodeSet, NumaOptions
from hwnuma.integrations import processes, torch
from hwnuma.launch.bound import Bound

hwnuma.bind("exlusive")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
hwnuma.bind(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
hwnuma.bind(MemoryPolicy.BIND)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
hwnuma.bind("node", local_rank="0")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
hwnuma.bind("node", rank=0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
hwnuma.bnid("node")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
hwnuma.bound("cores")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
hwnuma.plan_here("l3", ranks=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

NumaOptions("exlusive")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
NumaOptions("node", memory="local")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
NumaOptions("node", ranks_per_gpu="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
NumaOptions("node", mode="node")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
NumaOptions()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
NumaOptions("node").migrate = True  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
NumaOptions("node").memory = MemoryPolicy.BIND  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
name: int = NumaOptions("node").affinity_mode  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]

CpuSet(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Binding(0, cpuset=NodeSet("0"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Binding(0).as_dict()["cpus"]  # type: ignore[typeddict-item]  # pyright: ignore[reportGeneralTypeIssues]
hwnuma.bind(AffinityMode.NUMA)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]


def train(epochs: int) -> float:
    """Stand for a user's training loop."""
    return epochs / 2


torch.Bound(train, "node")("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
processes.Bound(train)(3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Bound(train, hwnuma.bind)()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
torch.bind_and_call(train, 1, 2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
