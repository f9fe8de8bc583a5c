"""No file of other people's makes hwnuma stumble: every rank of each machine is placed, or an error says why not."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from hwnuma.devices.pci import TopologyGpus
from hwnuma.errors import GpuNotFoundError, NotEnoughCoresError, TopologyFileError, UnknownLocalityError
from hwnuma.hwloc.topology import Topology
from hwnuma.model.bitmap import CpuSet
from hwnuma.model.gpu import Gpu
from hwnuma.model.machine import Machine
from hwnuma.model.options import AffinityMode, NumaOptions
from hwnuma.model.plan import Binding
from hwnuma.policy.planning import make_plan
from tests.differential.machines import CORPUS_XML, FIXTURES
from tests.every_machine import slow_but

_FILES = [*sorted(FIXTURES.glob("*.xml")), *sorted(CORPUS_XML.glob("*.xml"))]
_PUBLISHED = 82

every_file = pytest.mark.parametrize("path", slow_but(_FILES[::4], _FILES), ids=lambda path: path.stem)


def _gpus(machine: Machine) -> tuple[Gpu, ...]:
    try:
        return TopologyGpus(machine).gpus()
    except GpuNotFoundError:
        return ()


@cache
def _machine(path: Path) -> Machine | None:
    """The machine of a file; None of one without a PU, which is refused for that reason."""
    if b'type="PU"' not in path.read_bytes():
        with pytest.raises(TopologyFileError, match="has no PU"):
            Topology.from_xml_file(path)
        return None
    with Topology.from_xml_file(path) as topology:
        return topology.machine()


def test_all_published_files_are_there() -> None:
    """All of the collection is looked at: hwloc 1.x, 2.x and 3.0."""
    if not CORPUS_XML.is_dir():
        pytest.skip(f"other people's files are not in {CORPUS_XML}")
    assert len(list(CORPUS_XML.glob("*.xml"))) >= _PUBLISHED


@every_file
def test_every_rank_is_placed_or_refused_for_a_true_reason(path: Path) -> None:
    """In all modes, with the machine's GPUs or with four ranks without, nothing but a true reason leaves a rank out."""
    machine = _machine(path)
    if machine is None:
        return
    gpus = _gpus(machine)
    for mode in AffinityMode:
        plan = make_plan(machine, gpus, NumaOptions(mode), ranks=None if gpus else 4)
        assert len(plan) == (len(gpus) or 4)
        for binding in plan:
            _check(machine, mode, binding)


def _check(machine: Machine, mode: AffinityMode, binding: Binding) -> None:
    if binding.error is None:
        assert binding.cpuset
        assert binding.cpuset <= machine.allowed_cpuset
        assert binding.cores
        return
    if isinstance(binding.error, NotEnoughCoresError):
        assert mode is AffinityMode.EXCLUSIVE
        return
    allowed_near = [node for node in machine.cpu_nodes if node.cpuset & machine.allowed_cpuset]
    if isinstance(binding.error, UnknownLocalityError):
        # Several nodes, and the device hangs below all of them.
        assert len(machine.cpu_nodes) > 1
        assert binding.gpu is not None
        device = machine.pci_device(binding.gpu.pci_address or "")
        assert device is not None
        assert device.is_near_root or machine.cpuset <= device.near_cpuset
        return
    # What is left is a cpuset that has nothing of the GPU's node, and allows less than the machine.
    assert machine.allowed_cpuset != machine.cpuset
    assert allowed_near


@every_file
def test_any_pci_device_can_stand_in_for_a_gpu(path: Path) -> None:
    """Every PCI device of every file, whatever it is, has a node or an error that says how to tell it; no traceback."""
    machine = _machine(path)
    if machine is None:
        return
    gpus = tuple(Gpu(index, device.address) for index, device in enumerate(machine.pci_devices))
    if not gpus:
        assert machine.pci_devices == ()
        return
    for mode in AffinityMode:
        for binding in make_plan(machine, gpus, NumaOptions(mode)):
            assert (binding.error is None) == bool(binding.cpuset)
            if binding.error is not None:
                assert str(binding.error)
                _check(machine, mode, binding)


@every_file
def test_cut_to_one_cpu_ranks_are_placed_there_or_refused(path: Path) -> None:
    """With a single allowed CPU, a rank gets that CPU or an error, and with the nearest nodes allowed all get it."""
    machine = _machine(path)
    if machine is None:
        return
    owned = CpuSet(cpu for node in machine.cpu_nodes for cpu in node.cpuset & machine.allowed_cpuset)
    one = CpuSet([owned.last])
    gpus = _gpus(machine)
    for mode in AffinityMode:
        options = NumaOptions(mode, no_allowed_cpus="nearest", unknown_locality="node0")
        for binding in make_plan(machine.narrowed(one), gpus, options, ranks=None if gpus else 1):
            if isinstance(binding.error, NotEnoughCoresError):
                assert mode is AffinityMode.EXCLUSIVE
            else:
                assert binding.error is None
                assert binding.cpuset == one
