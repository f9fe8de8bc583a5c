"""User code that mypy --strict and pyright accept, and that runs: each value is declared with the type that it has."""

from __future__ import annotations

import enum
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import hwnuma
from hwnuma import (
    AffinityMode,
    Binding,
    CpuSet,
    DivideAmong,
    Gpu,
    Machine,
    MemoryPolicy,
    NodeSet,
    NumaOptions,
    Plan,
    Topology,
    TopologyGpus,
)
from hwnuma.integrations import processes
from hwnuma.integrations.torch import Bound, bind_and_call

MACHINE = Path(__file__).resolve().parents[2] / "fixtures" / "topologies" / "dgx_a100_nps4.xml"


class TorchsMode(str, enum.Enum):
    """torch.numa.binding.AffinityMode (torch 2.13), member for member."""

    NODE = "node"
    SOCKET = "socket"
    EXCLUSIVE = "exclusive"
    CORE_COMPLEX = "core-complex"


@dataclass(frozen=True)
class TorchsOptions:
    """torch.numa.binding.NumaOptions (torch 2.13), field for field."""

    affinity_mode: TorchsMode
    should_fall_back_if_binding_fails: bool = False


class OneGpu:
    """A source of GPUs of a user's own."""

    name = "one"

    def gpus(self) -> tuple[Gpu, ...]:
        """Give the one GPU."""
        return (Gpu(0, numa_node=0),)


def options() -> Iterator[NumaOptions]:
    """Options are made of members or of their names, and hold members."""
    by_name = NumaOptions("exclusive", memory="bind", divide_among="all", rank_order="round-robin", reserved_cpus="0-1")
    by_member = NumaOptions(AffinityMode.NODE, memory=MemoryPolicy.PREFERRED, reserved_cpus=[0, 1], threads_per_core=1)
    mode: AffinityMode = by_name.affinity_mode
    memory: MemoryPolicy = by_name.memory
    divide: DivideAmong = by_name.divide_among
    reserved: CpuSet = by_member.reserved_cpus
    threads: int | None = by_member.threads_per_core
    assert (mode, memory, divide) == (AffinityMode.EXCLUSIVE, MemoryPolicy.BIND, DivideAmong.ALL)
    assert (reserved, threads) == (CpuSet("0-1"), 1)
    yield by_name
    yield by_member
    yield NumaOptions.of("core-complex")
    yield NumaOptions.of(TorchsMode.SOCKET)
    yield NumaOptions.of(TorchsOptions(TorchsMode.SOCKET))


def plans(machine: Machine) -> Iterator[Plan]:
    """A plan takes options in every form, and GPUs or a source of them."""
    yield hwnuma.plan(machine, TopologyGpus(machine), "exclusive", ranks=2)
    yield hwnuma.plan(machine, [Gpu(0, numa_node=0)], AffinityMode.SOCKET)
    yield hwnuma.plan(machine, OneGpu(), NumaOptions("node"))
    yield hwnuma.plan(machine, OneGpu(), TorchsMode.NODE)
    yield hwnuma.plan(machine, OneGpu(), TorchsOptions(TorchsMode.NODE, should_fall_back_if_binding_fails=True))


def what_a_plan_tells(plan: Plan) -> str:
    """A plan is a sequence of bindings, prints as a table, and is plain values on request."""
    binding: Binding = plan[0]
    some: Sequence[Binding] = plan[:2]
    cpus: CpuSet = binding.cpuset
    nodes: NodeSet = binding.nodeset
    gpu: Gpu | None = binding.gpu
    address: str | None = None if gpu is None else gpu.pci_address
    sets: list[str] = [row["cpuset"] for row in plan.as_dict()["bindings"] if "cpuset" in row]
    failed: list[str] = [row["error"]["message"] for row in plan.as_dict()["bindings"] if "error" in row]
    command: list[str] = binding.wrap(["python", "-u", "train.py"])
    assert (sets[0], list(plan)[: len(some)], failed) == (str(cpus), list(some), [])
    json.dumps([plan.as_dict(), binding.as_dict()])
    return f"{plan}\n{address} {nodes} {command} {cpus | CpuSet([0]) & {1}}"


def train(epochs: int, *, fast: bool = False) -> float:
    """Stand for a user's training loop."""
    return epochs / (2 if fast else 1)


def bound_functions(plan: Plan) -> float:
    """A bound function takes and returns what the function does; a binding is what `bind` and its like give."""
    on_place: processes.Bound[..., float] = processes.Bound(train, plan[0])
    loss: float = on_place(2, fast=True) + Bound(
        train, plan.options, ranks=1, gpus="none", rank_is_first_argument=True
    )(0)
    with hwnuma.bound(CpuSet(os.sched_getaffinity(0))) as binding, hwnuma.bound(plan[0]) as inner:
        placed: tuple[Binding, Binding] = (binding, inner)
    return loss + len(placed)


def what_is_not_run() -> None:
    """Calls that bind for good, ask a driver or start workers: for the checkers alone."""
    bindings: list[Binding] = [
        hwnuma.bind(),
        hwnuma.bind("node", local_rank=0, ranks=1, gpus="none"),
        hwnuma.bind(TorchsOptions(TorchsMode.EXCLUSIVE), gpu_nodes={"0": 1}),
        hwnuma.bind_process(1, Binding(0, cpuset=CpuSet("0"))),
    ]
    plan: Plan = hwnuma.plan_here("exclusive", ranks=4, gpus="none")
    with processes.PlacePool(plan) as places, ProcessPoolExecutor(len(plan), initializer=places.take) as pool:
        pool.submit(train, 3)
    loss: float = bind_and_call(train, 1)
    found: hwnuma.Verification = hwnuma.verify(bindings[0])
    subprocess.run(plan[0].wrap(["true"]), check=found.ok and loss > 0)
    print(plan, hwnuma.__version__, found.drift)


def main() -> None:
    """Run what can be run anywhere."""
    assert len(list(options())) == 5
    with Topology.from_xml_file(MACHINE) as topology:
        machine = topology.machine()
    for plan in plans(machine):
        assert str(plan[0].cpuset) in what_a_plan_tells(plan)
    here = hwnuma.plan_here("node", ranks=1, gpus="none")
    assert bound_functions(here) == 3.0


if __name__ == "__main__":
    main()
