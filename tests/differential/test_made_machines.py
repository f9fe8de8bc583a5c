"""Machines made up from chance, written as sysfs trees: libhwloc reads them as meant, and torch agrees on the plan.

The property run (tests/test_policy_properties.py) checks the arithmetic on many more machines, by an oracle of our own;
here a sample of them goes through the files that a kernel would show, to libhwloc and to torch itself.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from random import Random

import pytest

from fixtures import facts, sysfs
from hwnuma.devices.pci import TopologyGpus
from hwnuma.errors import UnknownLocalityError
from hwnuma.model.bitmap import union
from hwnuma.model.gpu import Gpu
from hwnuma.model.machine import Machine, PciDevice
from hwnuma.model.options import AffinityMode, NumaOptions
from hwnuma.model.plan import Binding
from hwnuma.policy.planning import make_plan
from tests.differential.compare import outcome, table
from tests.differential.machines import REPOSITORY, Compared
from tests.differential.torch_answers import ask_torch
from tests.made_machines import Made, make
from tests.require import require

_SEED = 41
_MACHINES = 120
_READ = 40  # of these, through libhwloc: as quick tests have time for


def _as_sysfs_can_say(made: Made) -> Made | None:
    """The machine with each GPU below its node, as numa_node has it; None if a GPU is on no one node, or none is allowed."""
    if not made.gpus or not made.machine.allowed_cpuset:
        return None
    devices: list[PciDevice] = []
    for device in made.machine.pci_devices:
        touched = [node for node in made.machine.cpu_nodes if not node.cpuset.isdisjoint(device.near_cpuset)]
        if len(touched) != 1:
            return None
        devices.append(replace(device, near_cpuset=touched[0].cpuset))
    gpus = tuple(Gpu(gpu.index, gpu.pci_address) for gpu in made.gpus)
    return Made(replace(made.machine, pci_devices=tuple(devices)), gpus)


def _sample() -> list[Made]:
    found: list[Made] = []
    number = 0
    while len(found) < _MACHINES:
        sayable = _as_sysfs_can_say(make(Random(_SEED * 1_000_003 + number)))
        number += 1
        if sayable is not None:
            found.append(sayable)
    return found


@pytest.fixture(scope="module")
def sample() -> list[Made]:
    """The machines, the same in every run."""
    return _sample()


def _plans(machine: Machine, gpus: tuple[Gpu, ...]) -> dict[str, list[str]]:
    return {
        mode.value: [_text(binding) for binding in make_plan(machine, gpus, NumaOptions(mode))] for mode in AffinityMode
    }


def _text(binding: Binding) -> str:
    return str(binding.cpuset) if binding.error is None else outcome(binding)


def _read_by_libhwloc(machines: list[sysfs.SysfsMachine], folder: Path) -> list[Machine]:
    """What libhwloc makes of the machines' trees."""
    roots = []
    for number, machine in enumerate(machines):
        root = folder / str(number)
        root.mkdir()
        sysfs.write(machine, root)
        roots.append(str(root))
    done = subprocess.run(
        [sys.executable, "-m", "tests.differential.read_trees"],
        input=json.dumps(roots).encode(), capture_output=True, check=True, cwd=REPOSITORY,
    )  # fmt: skip
    read: list[Machine] = pickle.loads(done.stdout)
    return read


def test_a_gpu_on_a_node_without_cpus_is_refused_with_the_remedies(memory_path: Path) -> None:
    """The kernel names the GPU's own memory as its node: libhwloc knows no CPUs near it, and the error says what to do."""
    described = facts.describe(facts.load("gh200_x4"))
    devices = tuple(
        device if device.memory_node is None else replace(device, numa_node=device.memory_node)
        for device in described.pci_devices
    )
    (machine,) = _read_by_libhwloc([replace(described, pci_devices=devices)], memory_path)
    for mode in AffinityMode:
        for binding in make_plan(machine, TopologyGpus(machine).gpus(), NumaOptions(mode)):
            with pytest.raises(UnknownLocalityError, match=r"or a node that no CPUs are near.*--gpu-node"):
                binding.check()


@pytest.mark.slow  # trees of some ten thousand files
def test_libhwloc_reads_them_as_meant(sample: list[Made], memory_path: Path) -> None:
    """From the tree, by way of libhwloc, come the same plans as from the machine that the tree was written from.

    But for `socket` where a node crosses packages: libhwloc has a tree of objects, which cannot hold that.
    """
    sample = sample[:_READ]
    read = _read_by_libhwloc([sysfs.from_machine(made.machine) for made in sample], memory_path)
    assert len(read) == len(sample)
    for made, machine in zip(sample, read, strict=True):
        assert machine.allowed_cpuset == made.machine.allowed_cpuset
        assert [core.cpuset for core in machine.cores] == [core.cpuset for core in made.machine.cores]
        found, expected = _plans(machine, made.gpus), _plans(made.machine, made.gpus)
        if _crosses_packages(made.machine):
            found["socket"] = expected["socket"]
        assert found == expected, made


def _crosses_packages(machine: Machine) -> bool:
    """Whether some node has CPUs in two packages."""
    return any(
        sum(not node.cpuset.isdisjoint(package.cpuset) for package in machine.packages) > 1
        for node in machine.cpu_nodes
    )


def _packages_are_nodes(machine: Machine) -> bool:
    """Whether every package is made of whole nodes, as torch takes for granted."""
    for package in machine.packages:
        within = [node.cpuset for node in machine.cpu_nodes if not node.cpuset.isdisjoint(package.cpuset)]
        if union(within) != package.cpuset:
            return False
    return True


@pytest.mark.torch
def test_torch_agrees(sample: list[Made]) -> None:
    """Equal to the CPU wherever torch answers; where it raises, for a reason of the reviewed table.

    Of one difference only the kind is checked: `socket` on machines whose packages are not made of whole nodes.
    """
    require(find_spec("torch"), "PyTorch is not installed: pip install torch==2.13.0")
    compared = [
        Compared(
            f"made {number}", Path(), sysfs.from_machine(made.machine),
            tuple(gpu.pci_address or "" for gpu in made.gpus), is_fixture=False, is_variant=True,
        )
        for number, made in enumerate(sample)
    ]  # fmt: skip
    answers, entries, counts = ask_torch(compared)["answers"], table(), Counter[str]()
    for each, made in zip(compared, sample, strict=True):
        for mode, theirs in answers[each.name][str(made.machine.allowed_cpuset)].items():
            plan = make_plan(made.machine, made.gpus, NumaOptions(AffinityMode(mode)))
            for binding, torch in zip(plan, theirs, strict=True):
                if binding.error is None and torch.get("cpus") == str(binding.cpuset):
                    counts["equal"] += 1
                elif mode == "socket" and not _packages_are_nodes(made.machine):
                    counts["a package that is not made of whole nodes"] += 1
                else:
                    fitting = [entry.name for entry in entries if entry.fits(mode, torch, binding)]
                    assert fitting, (mode, torch, _text(binding), made)
                    counts[fitting[0]] += 1
    print(f"\n{len(sample)} made machines: {dict(counts)}")
    assert counts["equal"] > counts.total() // 3
