"""Every fixture machine presented to NVML: the driver and the topology lead to the same plans."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from hwnuma import AffinityMode, Gpu, Machine, Plan, TopologyGpus, plan
from hwnuma.policy.locality import locate
from tests import fake_nvml
from tests.conftest import load_machine
from tests.every_machine import quick_few
from tests.fake_nvml import FakeNvml
from tests.forked import output_of
from tests.require import require

TOPOLOGIES = sorted((Path(__file__).parent.parent / "fixtures" / "topologies").glob("*.xml"))
NVIDIA = [path.stem for path in TOPOLOGIES if "[10de:" in path.read_text()]

# NVML reads its description anew each time that it is started, so that one process can ask about all machines.
ASK = """
import pickle, sys
from hwnuma.devices.nvml import NvmlGpus
sys.stdout.buffer.write(pickle.dumps(NvmlGpus().gpus()))
"""


def _with_affinity(machine: Machine, gpus: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    """The GPUs with the driver's CPU affinity: the allowed CPUs of the node that each is on, as NVML has them."""
    places = locate(machine, gpus)
    return tuple(
        replace(gpu, cpu_affinity=place.nodes[0].cpuset & machine.allowed_cpuset) if place.nodes else gpu
        for gpu, place in zip(gpus, places, strict=True)
    )


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bool], tuple[Gpu, ...]]:
    """What NVML tells of a machine, with or without CPU affinities."""
    require(fake_nvml.compiler(), "there is no C compiler to build the fake NVML with")

    @cache
    def gpus_of(name: str, affinity: bool) -> tuple[Gpu, ...]:
        machine = load_machine(name)
        gpus = TopologyGpus(machine, "nvidia").gpus()
        driver = FakeNvml.of(_with_affinity(machine, gpus) if affinity else gpus)
        found: tuple[Gpu, ...] = pickle.loads(output_of(ASK, driver.env(tmp_path_factory.mktemp(name))))
        return found

    return gpus_of


def _places(made: Plan) -> list[tuple[str | None, str, str, str]]:
    """What matters of a plan: for each rank the GPU's address, its CPUs, its nodes, or its error."""
    return [
        (each.gpu.pci_address if each.gpu else None, str(each.cpuset), str(each.nodeset), str(each.error or ""))
        for each in made
    ]


@cache
def _by_topology(name: str, mode: AffinityMode) -> list[tuple[str | None, str, str, str]]:
    machine = load_machine(name)
    return _places(plan(machine, TopologyGpus(machine, "nvidia"), mode))


@pytest.mark.parametrize("mode", list(AffinityMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("affinity", [False, True], ids=["nvml", "nvml-with-affinity"])
@pytest.mark.parametrize("name", quick_few(NVIDIA))
def test_same_plan(told: Callable[[str, bool], tuple[Gpu, ...]], name: str, affinity: bool, mode: AffinityMode) -> None:
    """Each rank gets the same CPUs and nodes, or the same error, whether NVML or the topology tells the GPUs."""
    machine = load_machine(name)
    by_topology = _by_topology(name, mode)
    by_nvml = _places(plan(machine, told(name, affinity), mode))
    assert by_nvml == by_topology
    placed = sum(1 for row in by_nvml if not row[3])
    print(f"\n{name:28} {mode.value:13} nvml == topology: {placed} of {len(by_nvml)} ranks placed")


LOST = """
import pickle, sys
from dataclasses import replace
from functools import cache
from hwnuma import Topology
from hwnuma.devices.discovery import find_gpus
with Topology.from_xml_file(sys.argv[1]) as topology:
    machine = replace(topology.machine(), is_this_system=True)
found = find_gpus("auto", machine, {})
sys.stdout.buffer.write(pickle.dumps((found.source, len(found.all), found.warnings)))
"""


@pytest.mark.parametrize(("name", "warns"), [("dgx_h100", True), ("mi300x_8_xeon8480", False)])
def test_topology_in_place_of_a_broken_nvml(tmp_path: Path, name: str, warns: bool) -> None:
    """Where NVML fails, the topology's GPUs are taken; on a machine with NVIDIA GPUs not without saying so."""
    require(fake_nvml.compiler(), "there is no C compiler to build the fake NVML with")
    broken = FakeNvml(errors={"nvmlInit": fake_nvml.VERSION_MISMATCH})
    path = next(path for path in TOPOLOGIES if path.stem == name)
    command = [sys.executable, "-c", LOST, str(path)]
    done = subprocess.run(command, env=broken.env(tmp_path), stdout=subprocess.PIPE, check=True, timeout=60)
    source, count, warnings = pickle.loads(done.stdout)
    assert (source, count) == ("topology", 8)
    assert ["since NVML does not work: nvmlInit failed: RM has" in each for each in warnings] == (
        [True] if warns else []
    )
