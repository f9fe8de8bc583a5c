"""hwnuma.integrations.devices: a process that is given GPUs by name, among all of its machine."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from hwnuma.errors import GpuNotFoundError
from hwnuma.hwloc.topology import Topology
from hwnuma.integrations.devices import gpus_named, plan_devices
from hwnuma.launch.job import plan
from hwnuma.model.bitmap import CpuSet, union
from hwnuma.model.gpu import Gpu
from hwnuma.model.machine import Machine
from hwnuma.model.options import AffinityMode, DivideAmong, NumaOptions
from tests.processes import answer_of
from tests.require import require
from tests.seccomp import can_deny

GPUS = (
    Gpu(0, uuid="GPU-aa11", device_index=0),
    Gpu(1, uuid="MIG-bb22", device_index=1),
    Gpu(2, uuid="MIG-bc33", device_index=1),
    Gpu(3, uuid="GPU-dd44", device_index=2),
)


@pytest.mark.parametrize(
    ("names", "indexes"),
    [([0], [0]), (["2"], [3]), (["GPU-dd44", 0], [3, 0]), (["MIG-bb"], [1]), (["gpu-DD"], [3])],
)
def test_gpus_are_named_as_the_driver_does(names: list[str | int], indexes: list[int]) -> None:
    """Numbers are nvidia-smi's, not places in our list; UUIDs may be cut short."""
    assert [gpu.index for gpu in gpus_named(GPUS, names)] == indexes


@pytest.mark.parametrize("name", [1, "MIG-b", "GPU-ee", "7", "", "-1"])
def test_a_name_of_none_or_several_is_refused(name: str | int) -> None:
    """The message says how many are meant and lists what there is."""
    with pytest.raises(GpuNotFoundError, match="GPU-aa11"):
        gpus_named(GPUS, [name])


def test_no_name_at_all_is_refused() -> None:
    """A process without a GPU is told to ask for one."""
    with pytest.raises(GpuNotFoundError, match="no GPU is assigned"):
        gpus_named(GPUS, [])


def test_each_process_gets_its_share_of_the_plan_of_all(machine_of: Callable[[str], Machine]) -> None:
    """Processes that know nothing of each other get together what one plan of all GPUs gives."""
    machine = machine_of("dgx_a100_nps4")
    options = NumaOptions(AffinityMode.EXCLUSIVE)
    everyone = plan(machine, _gpus(machine), options)
    alone = [plan_devices(machine, [index], options)[0].cpuset for index in range(8)]
    assert alone == [binding.cpuset for binding in everyone]


def test_a_process_with_several_gpus_gets_their_shares(machine_of: Callable[[str], Machine]) -> None:
    """The union of what each GPU would get alone."""
    machine = machine_of("dgx_a100_nps4")
    options = NumaOptions(AffinityMode.EXCLUSIVE)
    alone = [plan_devices(machine, [index], options)[0].cpuset for index in (0, 5)]
    assert plan_devices(machine, [0, 5], options)[0].cpuset == alone[0] | alone[1]


def test_dividing_among_its_own_gpus_can_be_asked_for(machine_of: Callable[[str], Machine]) -> None:
    """With divide_among=visible, a process that is alone on its machine gets whole nodes."""
    machine = machine_of("dgx_a100_nps4")
    options = NumaOptions(AffinityMode.EXCLUSIVE, divide_among=DivideAmong.VISIBLE)
    node = plan_devices(machine, [0], NumaOptions(AffinityMode.NODE))[0]
    assert plan_devices(machine, [0], options)[0].cpuset == node.cpuset


def _gpus(machine: Machine) -> tuple[Gpu, ...]:
    from hwnuma.devices.pci import TopologyGpus

    return TopologyGpus(machine).gpus()


BIND = """
import json, logging, os, sys
from hwnuma import Gpu, NumaOptions
from hwnuma.integrations.devices import bind_to_devices
from tests.seccomp import deny
logging.basicConfig()
node, policy = int(sys.argv[1]), sys.argv[2]
if policy == "none":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
else:
    deny("set_mempolicy")
binding = bind_to_devices([0], NumaOptions("node", memory=policy), gpus=[Gpu(0, numa_node=node)])
told = {"bound": str(binding.cpuset), "is": sorted(os.sched_getaffinity(0)), "failed": str(binding.memory_error)}
print(json.dumps(told))
"""


@pytest.fixture
def first_node() -> str:
    """The first node of this system that has CPUs."""
    with Topology.from_this_system() as topology:
        return str(topology.machine().cpu_nodes[0].os_index)


@pytest.mark.fault(
    "seccomp", "set_mempolicy is denied, under Dask's and Ray's integrations", "gives the CPUs bound, and a warning"
)
def test_a_memory_policy_that_is_denied_is_told(first_node: str) -> None:
    """The CPUs are bound; the warning and the binding's `memory_error` tell of the policy, as with hwnuma.bind."""
    require(can_deny(), "the numbers of this machine's system calls are not known to tests/seccomp.py")
    told, warned = answer_of(BIND, first_node, "preferred")
    assert "seccomp" in told["failed"]
    assert "are bound, but the memory policy is not set" in warned


def test_an_outer_mask_is_told(first_node: str) -> None:
    """A process that somebody has bound to one CPU stays there, and is told who it was and what it would have got."""
    require(len(os.sched_getaffinity(0)) >= 2, "one CPU less than all is one at least, and this process may use one")
    told, warned = answer_of(BIND, first_node, "none", SLURM_CPU_BIND="quiet,mask_cpu:0x1")
    assert told["is"] == [int(told["bound"])]
    assert f"the process of GPU 0 gets CPUs {told['bound']} instead of " in warned
    assert "srun --cpu-bind=none" in warned


ANEW = """
import json, os, sys
from hwnuma import Gpu, NumaOptions
from hwnuma.integrations.devices import bind_to_devices
gpus = [Gpu(index, numa_node=int(sys.argv[1])) for index in range(2)]
options = NumaOptions("exclusive", reserved_cpus=sys.argv[2])
told = [str(bind_to_devices([index], options, gpus=gpus).cpuset) for index in (0, 1, 0)]
missing = bind_to_devices([7], NumaOptions("node", should_fall_back_if_binding_fails=True), gpus=gpus)
told += [type(missing.error).__name__, str(bind_to_devices([1], options, gpus=gpus).cpuset)]
print(json.dumps(told))
"""


def test_a_process_that_is_given_other_gpus_is_planned_from_what_it_was_started_with() -> None:
    """It moves to the other GPU's share and back; what hwnuma made of its affinity is not held against it."""
    with Topology.from_this_system() as topology:
        machine = topology.machine()
    node = max(machine.cpu_nodes, key=lambda node: len(node.cpuset & CpuSet(os.sched_getaffinity(0))))
    cores = list(machine.cores_within(node.cpuset & CpuSet(os.sched_getaffinity(0))))
    require(len(cores) >= 2, "two GPUs need a core each of one node, and this process may use one")
    first, second, *others = (core.cpuset for core in cores)
    told, _ = answer_of(ANEW, str(node.os_index), str(union(others)))
    one, other = str(first), str(second)
    assert told == [one, other, one, "GpuNotFoundError", other]
