"""The machines that hwnuma and PyTorch are compared on, as hwnuma sees them and as PyTorch does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

from fixtures import facts
from fixtures.sysfs import SysfsMachine
from hwnuma.devices.pci import TopologyGpus, gpus_at
from hwnuma.hwloc.topology import Topology
from hwnuma.model.bitmap import CpuSet, NodeSet
from hwnuma.model.gpu import Gpu
from hwnuma.model.machine import Machine
from tests.differential.xml_reader import NotAMachineError, read

REPOSITORY = Path(__file__).resolve().parents[2]
FIXTURES = REPOSITORY / "fixtures" / "topologies"
# Other people's files: beside the repository, never in it.
CORPUS = REPOSITORY.parent / "shared" / "corpus"
CORPUS_XML = CORPUS / "xml"


@dataclass(frozen=True)
class Compared:
    """One machine to compare on.

    Attributes:
        name: the fixture's name, or "corpus/" and the file's.
        path: the topology that hwnuma reads.
        sysfs: the same machine for PyTorch, made without libhwloc and hwnuma.
        addresses: the GPUs in the order of their CUDA index.
        is_fixture: whether the machine is the repository's own.
        is_variant: whether it is another one with other GPUs visible or another kernel; then only with all of its CPUs.
    """

    name: str
    path: Path
    sysfs: SysfsMachine
    addresses: tuple[str, ...]
    is_fixture: bool
    is_variant: bool = False

    @cached_property
    def machine(self) -> Machine:
        """The machine as hwnuma reads it."""
        return _load(self.path)

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """The GPUs in the order of their CUDA index."""
        found = TopologyGpus(self.machine).gpus()
        if tuple(gpu.pci_address for gpu in found) == self.addresses:
            return found
        return gpus_at(self.machine, self.addresses)

    def cuts(self) -> dict[str, CpuSet]:
        """The sets of CPUs that the calling process may use, by what they are."""
        allowed = self.sysfs.online_cpuset if self.sysfs.allowed_cpuset is None else self.sysfs.allowed_cpuset
        if self.is_variant:
            return {"as it is": allowed}
        last = max(core.package for core in self.sysfs.cores)
        package = CpuSet(cpu for core in self.sysfs.cores if core.package == last for cpu in core.cpuset)
        half = list(allowed)[: max(1, len(allowed) // 2)]
        cuts = {
            "as it is": allowed,
            "last package": package & allowed,
            "first node": next(node.cpuset for node in self.sysfs.nodes if node.cpuset) & allowed,
            "odd CPUs": CpuSet(cpu for cpu in allowed if cpu % 2),
            "first half of the CPUs": CpuSet(half),
            "every third CPU and the first ten": CpuSet(list(allowed)[::3]) | CpuSet(list(allowed)[:10]),
        }
        different: dict[CpuSet, str] = {}
        for name, cut in cuts.items():
            different.setdefault(cut, name)
        return {name: cut for cut, name in different.items() if cut}


@cache
def _load(path: Path) -> Machine:
    with Topology.from_xml_file(path) as topology:
        return topology.machine()


def _with_some_gpus(compared: Compared) -> Iterator[Compared]:
    """The machine itself, and with every other GPU visible, in reverse order."""
    yield compared
    if len(compared.addresses) > 1:
        name = f"{compared.name} (every other GPU, in reverse)"
        yield replace(compared, name=name, addresses=compared.addresses[::-2], is_variant=True)


def fixtures() -> Iterator[Compared]:
    """The repository's machines, described to PyTorch by the facts that they were made from."""
    for name in facts.names():
        known = facts.load(name)
        addresses = tuple(gpu["address"] for gpu in known.get("gpus", ()))
        if addresses:
            machine = Compared(name, FIXTURES / f"{name}.xml", facts.describe(known), addresses, is_fixture=True)
            yield from _with_some_gpus(machine)
            if name == "gigabyte_g593_h200_snc4":
                yield _with_more_possible_nodes(machine)


def _with_more_possible_nodes(compared: Compared) -> Compared:
    """The machine with a kernel that allows for more nodes than there are, as Xeons' firmware makes it do."""
    possible = NodeSet(range(compared.sysfs.nodeset.last + 3))
    sysfs = replace(compared.sysfs, possible_nodeset=possible)
    return replace(compared, name=f"{compared.name} (more possible nodes)", sysfs=sysfs, is_variant=True)


def corpus() -> Iterator[Compared]:
    """The machines with GPUs among other people's files, described to PyTorch by the raw XML."""
    for path in sorted(CORPUS_XML.glob("*.xml")):
        try:
            found = read(path)
        except NotAMachineError:
            continue  # tests/differential/test_every_xml_file.py has what hwnuma makes of them
        if found.gpus:
            machine = Compared(f"corpus/{path.stem}", path, found.sysfs, found.gpus, is_fixture=False)
            yield from _with_some_gpus(machine)
