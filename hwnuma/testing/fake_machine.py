"""A machine that is not there, which this process sees for a while: `machine`, and what it gives, `FakeMachine`."""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from hwnuma.devices.pci import TopologyGpus
from hwnuma.errors import GpuNotFoundError, OptionError
from hwnuma.hwloc.annotate import written
from hwnuma.hwloc.files import decompressed, read_regular_file
from hwnuma.hwloc.topology import Topology
from hwnuma.model import plan as plan_module
from hwnuma.model.bitmap import CpuSet, NodeSet
from hwnuma.model.facts import Facts
from hwnuma.model.gpu import Gpu
from hwnuma.model.machine import Machine
from hwnuma.model.options import MemoryPolicy
from hwnuma.model.plan import Plan
from hwnuma.model.value import Value
from hwnuma.processes import procfs
from hwnuma.processes.outer_affinity import OUTER_AFFINITY
from hwnuma.testing import doubles
from hwnuma.testing.children import environment_of_child
from hwnuma.testing.driver import Driver
from hwnuma.testing.kernel import Kernel
from hwnuma.testing.nvml import FakeGpu, FakeNvml
from hwnuma.testing.patches import Patches
from hwnuma.testing.record import Bound, Executed, Record
from hwnuma.testing.state import State
from hwnuma.testing.topologies import file_of

# Of an H100 (NVML_NVLINK_MAX_LINKS). A GPU that has more to others than this has them through switches.
_MOST_LINKS_OF_GPU = 18
_MOST_BYTES = 64 << 20
# The runtime whose variable says which GPUs a process sees, by vendor.
_VISIBLE = {"nvidia": "CUDA_VISIBLE_DEVICES", "amd": "ROCR_VISIBLE_DEVICES", "intel": "ZE_AFFINITY_MASK"}


class Wanted(Value):
    """What is wanted of a machine: the arguments of `machine`."""

    allowed: CpuSet | None = None
    visible: str | None = None
    environment: Mapping[str, str] = {}
    gpus: Sequence[Gpu] | FakeNvml | None = None
    pynvml: bool = False
    affinity: bool = False
    children: bool = False


def machine(  # noqa: PLR0913 -- each a choice of its own, by name
    what: str | os.PathLike[str] = "dgx_h100",
    *,
    allowed: CpuSet | str | None = None,
    visible: str | None = None,
    environment: Mapping[str, str] | None = None,
    gpus: Sequence[Gpu] | FakeNvml | None = None,
    pynvml: bool = False,
    affinity: bool = False,
    children: bool = False,
) -> FakeMachine:
    """Make a machine for this process to see.

    ``with hwnuma.testing.machine("dgx_h100") as there: …``

    In the block hwnuma's own functions plan and bind there, and what they would have bound is recorded. This process's
    environment variables count as if it ran there.

    Args:
        what: a name of `machines`, or the path of a capture or of any topology that hwloc reads.
        allowed: the CPUs that the cgroup allows there; by default those of the file.
        visible: what CUDA_VISIBLE_DEVICES (AMD: ROCR_VISIBLE_DEVICES) is in the block.
        environment: other variables to set for the block.
        gpus: the GPUs that the driver shows, or a whole description of it; by default the capture's, or else the NVIDIA
            GPUs of the topology. MIG instances are Gpus.
        pynvml: let `pynvml` see that driver too, whoever calls it.
        affinity: let `os.sched_getaffinity`, `os.sched_setaffinity`, `os.cpu_count` and `os.process_cpu_count` see that
            machine too.
        children: let processes that are started in the block see it too, by their environment (`environment`).

    Raises:
        OptionError: there is no such machine or file.
        TopologyFileError: the file cannot be read, or is no topology.
    """
    if not isinstance(what, (str, os.PathLike)):
        raise OptionError(f"a machine is named by its name or its file's, and not by a {type(what).__name__}")
    return FakeMachine(
        what,
        Wanted(
            None if allowed is None else CpuSet(allowed),
            visible,
            dict(environment or {}),
            gpus,
            pynvml=pynvml,
            affinity=affinity,
            children=children,
        ),
    )


class FakeMachine:
    """A machine that this process sees between `enter` and `leave`: what is there, and what would have been bound.

    Attributes:
        name: as it was asked for.
    """

    # The one that this process sees.
    _entered: FakeMachine | None = None

    def __init__(self, what: str | os.PathLike[str], wanted: Wanted | None = None) -> None:
        """Note what is asked for; `machine` says what it is."""
        self.name: str = os.fspath(what)
        self._file = file_of(what)
        self._wanted = wanted or Wanted()
        self._patches = Patches()
        self._state: State | None = None
        self._record: Record | None = None
        self._kernel: Kernel | None = None

    # ---- what is there -----------------------------------------------------------------------------------------

    @property
    def machine(self) -> Machine:
        """The machine, for `hwnuma.plan`: as a process on it has it of ``Topology.from_this_system().machine()``."""
        return self._there().machine

    @property
    def file(self) -> Path:
        """The topology file that it was made of, for ``hwnuma plan --topology``."""
        return self._file

    @property
    def nvml(self) -> FakeNvml | None:
        """What its driver tells; None if it has no NVIDIA driver."""
        self._there()
        return self._state.nvml if self._state is not None else None

    def environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment with which a process sees this machine, and records what it would have bound.

        It works for Pythons in which hwnuma is installed, and for ``hwnuma exec``, which then really becomes the
        command. Other programs run where they are, and their places are not theirs.

        Args:
            base: the rest of it; by default this process's.
        """
        self._there()
        return environment_of_child(self._state, os.environ if base is None else base)

    # ---- what would have been bound ----------------------------------------------------------------------------

    @property
    def bound(self) -> list[Bound]:
        """All that would have been bound so far, in order, also by processes that were started with `environment`."""
        return self._written().all_bound()

    @property
    def executed(self) -> list[Executed]:
        """The commands that `hwnuma exec` would have become. In this process it ends with SystemExit instead."""
        return self._written().all_executed()

    def rank(self, local_rank: int) -> Bound:
        """Where a rank was bound last.

        Raises:
            AssertionError: it never was; the message says which were.
        """
        found = [each for each in self.bound if each.local_rank == local_rank]
        if not found:
            others = sorted({each.local_rank for each in self.bound if each.local_rank is not None})
            raise AssertionError(
                f"local rank {local_rank} was not bound on {self.name}: "
                + (f"local ranks {', '.join(map(str, others))} were" if others else "no rank was")
            )
        return found[-1]

    def affinity(self, thread: int = 0) -> CpuSet:
        """The CPUs that a thread (0: the calling one), or a process's main thread, would run on now.

        Raises:
            ProcessLookupError: there is no such thread.
        """
        return self._there().get_affinity(thread)

    def restart(self) -> None:
        """Make this process one that was just started there: bound to nothing. A test is several ranks in turn so."""
        kernel = self._there()
        for thread in procfs.thread_ids():
            self._written().write("affinity", thread=thread, cpus=str(kernel.affinity))
            self._written().write("policy", thread=thread, memory=MemoryPolicy.NONE.value, nodes="")
        OUTER_AFFINITY._bound = None

    def assert_bound(self, plan: Plan) -> None:
        """See that every rank of a plan that has a place was bound there last.

        Raises:
            AssertionError: one was not, or elsewhere; the message names each.
        """
        last = {each.local_rank: each for each in self.bound}
        wrong = []
        for binding in plan:
            found = last.get(binding.local_rank)
            if binding.error is None and (found is None or found.cpus != binding.cpuset):
                where = "was not bound" if found is None else f"was bound to CPUs {found.cpus}"
                wrong.append(f"local rank {binding.local_rank} {where}, and is planned for CPUs {binding.cpuset}")
        if wrong:
            raise AssertionError("; ".join(wrong))

    def _written(self) -> Record:
        if self._record is None:
            raise OptionError(f"{self.name} was not entered: with hwnuma_machine(…) as machine")
        return self._record

    def _there(self) -> Kernel:
        if self._kernel is None:
            raise OptionError(f"{self.name} is not entered: that is known in its with block alone")
        return self._kernel

    # ---- entering and leaving ----------------------------------------------------------------------------------

    def enter(self) -> FakeMachine:
        """Make this process see the machine.

        Raises:
            OptionError: it sees one already.
            TopologyFileError: the file cannot be read, or is no topology.
        """
        _see_that_none_is_entered(self.name)
        folder = Path(tempfile.mkdtemp(prefix="hwnuma-testing-"))
        try:
            self._state = self._prepare(folder)
            self._take_over(self._state, owner=os.getpid())
            self._patches.afterwards(lambda: shutil.rmtree(folder, ignore_errors=True))
        except BaseException:
            self.leave()
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return self

    def leave(self) -> None:
        """Let this process see what there is again; does nothing where that is so already. What is recorded stays."""
        if self._record is not None:
            self._record.all_bound()  # the file goes away
        self._patches.undo()
        self._kernel = None
        if FakeMachine._entered is self:
            FakeMachine._entered = None

    def __enter__(self) -> FakeMachine:
        return self if FakeMachine._entered is self else self.enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def __repr__(self) -> str:
        return f"<hwnuma.testing machine {self.name}{'' if self._kernel else ', not entered'}>"

    def _prepare(self, folder: Path) -> State:
        """Write down what this machine is, for this process and for its children."""
        file = folder / "topology.xml"
        content = read_regular_file(self._file, what="the topology file", most_bytes=_MOST_BYTES)
        content = decompressed(content, os.fspath(self._file), most_bytes=_MOST_BYTES)
        file.write_bytes(content if self._wanted.allowed is None else _with_allowed(content, self._wanted.allowed))
        with Topology.from_xml_file(file) as topology:
            seen = topology.machine()
        facts = seen.facts or Facts()
        variables = {name: value for name, value in facts.variables if name not in os.environ}
        if facts.nccl_nodes and "NCCL_TOPO_FILE" not in os.environ:
            variables["NCCL_TOPO_FILE"] = str(_write_nccl_topology(folder / "nccl.xml", facts))
        if self._wanted.visible is not None:
            variables[_VISIBLE[_vendor_of(seen)]] = self._wanted.visible
        state = State(
            name=self.name,
            folder=str(folder),
            facts=facts,
            nvml=_described(seen, self._wanted.gpus),
            affinity=(facts.affinity or seen.allowed_cpuset) & seen.allowed_cpuset,
            pynvml=self._wanted.pynvml,
            os_affinity=self._wanted.affinity,
            variables=variables | dict(self._wanted.environment),
        )
        (folder / State.FILE).write_bytes(pickle.dumps(state))
        return state

    def _take_over(self, state: State, owner: int | None) -> None:
        """Replace what asks this system.

        Args:
            state: the machine.
            owner: the process that does not become commands: this one, or None.
        """
        FakeMachine._entered = self
        patches = self._patches
        for name, value in state.variables.items() if owner is not None else ():
            _set_variable(patches, name, value)
        if self._wanted.children:
            for name, value in environment_of_child(state, os.environ).items():
                if os.environ.get(name) != value:
                    _set_variable(patches, name, value)
        patches.attribute(plan_module, "_PROGRAM", os.fspath(Path(__file__).with_name("wrapped.py")))
        self._record = Record(Path(state.folder) / "record.jsonl")
        doubles.this_system(patches, Path(state.folder) / "topology.xml", state.facts)
        with Topology.from_this_system() as topology:
            self._kernel = Kernel(topology.machine(), state.affinity, self._record)
        doubles.kernel(patches, self._kernel)
        doubles.binding(patches, self._kernel, self._record, owner)
        driver = Driver(state.nvml, lambda cpus: _bind_by_driver(self._there(), cpus))
        doubles.nvml(patches, driver, everybody=state.pynvml)
        if state.os_affinity:
            doubles.os_affinity(patches, self._kernel)


def take_over_from_parent(folder: str) -> None:
    """Make this process, a child of one that entered a machine, see that for as long as it lives."""
    state: State = pickle.loads((Path(folder) / State.FILE).read_bytes())  # noqa: S301 -- its parent wrote it
    made = FakeMachine(Path(state.folder) / "topology.xml")
    made.name, made._state = state.name, state
    made._take_over(state, owner=None)


def _see_that_none_is_entered(name: str) -> None:
    entered = FakeMachine._entered
    if entered is not None:
        raise OptionError(
            f"this process sees {entered.name} already, and one machine at a time: leave that before {name} (give it a "
            "with block of its own)"
        )


def _set_variable(patches: Patches, name: str, value: str) -> None:
    former = os.environ.get(name)

    def put_back() -> None:
        if former is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = former

    patches.afterwards(put_back)
    os.environ[name] = value


def _bind_by_driver(kernel: Kernel, cpus: CpuSet) -> None:
    kernel.set_affinity(cpus)
    kernel.bound(0, "nvmlDeviceSetCpuAffinity")


def _with_allowed(content: bytes, allowed: CpuSet) -> bytes:
    """A topology in which these CPUs alone are allowed, as a cgroup would have it."""
    from xml.etree import ElementTree  # only for this

    tree = ElementTree.fromstring(content)
    words = f"{allowed.mask:x}"
    words = words.zfill(-(-len(words) // 8) * 8)
    text = ",".join(f"0x{words[place : place + 8]}" for place in range(0, len(words), 8))
    next(tree.iter("object")).set("allowed_cpuset", text)
    return written(tree).encode()


def _vendor_of(machine: Machine) -> str:
    for vendor in _VISIBLE:
        try:
            TopologyGpus(machine, vendor).gpus()
        except GpuNotFoundError:
            continue
        return vendor
    return "nvidia"


def _described(machine: Machine, gpus: Sequence[Gpu] | FakeNvml | None) -> FakeNvml | None:
    """What the driver of a machine tells: what was given, what was captured, or the topology's NVIDIA GPUs."""
    described: FakeNvml | None = None
    if isinstance(gpus, FakeNvml):
        return gpus
    if gpus is not None:
        described = FakeNvml.of(gpus)
    elif machine.facts is not None:
        described = None if machine.facts.nvml_error or not machine.facts.gpus else _captured(machine.facts)
    else:
        described = _of_topology(machine)
    if described is not None:
        described.cpus_in_system = max(described.cpus_in_system, machine.cpuset.last + 1)
    return described


def _captured(facts: Facts) -> FakeNvml:
    described = FakeNvml.of(facts.gpus)
    described.driver = facts.versions.driver or described.driver
    for fake in described.gpus:
        links = {link.target: link.links for link in facts.nvlinks if link.source == fake.pci}
        switched = sum(links.values()) > _MOST_LINKS_OF_GPU
        fake.nvlinks = {"switch": max(links.values())} if switched else links
    return described


def _of_topology(machine: Machine) -> FakeNvml | None:
    """A driver that shows the NVIDIA GPUs, each near the CPUs that the kernel says it is; None without such GPUs."""
    try:
        found = TopologyGpus(machine, "nvidia").gpus()
    except GpuNotFoundError:
        return None
    fakes = []
    for gpu in found:
        device = machine.pci_device(gpu.pci_address or "")
        near = CpuSet() if device is None else device.near_cpuset & machine.allowed_cpuset
        nodes = NodeSet() if device is None else device.near_nodeset
        fakes.append(FakeGpu(gpu.pci_address or "", name=gpu.name or "", cpus=near, nodes=nodes))
    return FakeNvml(fakes)


def _write_nccl_topology(file: Path, facts: Facts) -> Path:
    """Write a file as NCCL_TOPO_FILE named one where the machine was captured."""
    # An address has no character that XML would have to escape.
    rows = "".join(f'<cpu numaid="{node}"><pci busid="{address}"/></cpu>' for address, node in facts.nccl_nodes)
    file.write_text(f'<system version="1">{rows}</system>\n')
    return file
