"""What stands in for the questions that hwnuma asks of this system, and for what it does to it, each in one place."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from hwnuma.devices import kfd, nics, watched
from hwnuma.devices import nvml as nvml_devices
from hwnuma.errors import HwlocError
from hwnuma.hwloc import copy_out, core_speeds, mempolicy, self_binding
from hwnuma.hwloc import topology as topologies
from hwnuma.hwloc.mempolicy import SavedPolicy
from hwnuma.hwloc.topology import Topology
from hwnuma.launch import execute
from hwnuma.model.bitmap import CpuSet, NodeSet
from hwnuma.model.facts import Facts, KernelSettings
from hwnuma.model.options import MemoryPolicy
from hwnuma.processes import binding as binding_module
from hwnuma.processes import blocks, kernel_settings, outer_affinity, procfs
from hwnuma.processes.binding import Applied
from hwnuma.processes.procfs import Pages, ThreadPolicy
from hwnuma.testing.driver import Driver
from hwnuma.testing.kernel import Kernel, rank_here
from hwnuma.testing.patches import Patches
from hwnuma.testing.record import Bound, Record

# linux/mempolicy.h, the modes that hwnuma sets.
_MODES = (MemoryPolicy.NONE, MemoryPolicy.PREFERRED, MemoryPolicy.BIND, MemoryPolicy.INTERLEAVE)

_LIBHWLOC = ("HWLOC_XMLFILE", "HWLOC_THISSYSTEM", "HWLOC_COMPONENTS", "HWLOC_FSROOT", "HWLOC_SYNTHETIC")
_LOADING = threading.RLock()


@contextmanager
def _libhwloc_reads(file: Path) -> Iterator[None]:
    """For libhwloc, this system is a file's: as long as it loads, since children are not to find these variables."""
    with _LOADING:
        saved = {name: os.environ.pop(name, None) for name in _LIBHWLOC}
        os.environ.update(HWLOC_XMLFILE=str(file), HWLOC_THISSYSTEM="1")
        try:
            yield
        finally:
            for name, value in saved.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def this_system(patches: Patches, file: Path, facts: Facts) -> None:
    """Make this system a file's, with what the kernel would tell of it elsewhere."""
    load = Topology.from_this_system

    def from_this_system(*, pci: bool = True, network: bool = True, first_caches: bool = True) -> Topology:
        with _libhwloc_reads(file):
            topology = load(pci=pci, network=network, first_caches=first_caches)
            _ = topology.is_this_system  # it loads, as long as libhwloc finds the variables
        return topology

    def settings(_root: str = "/") -> KernelSettings:
        return facts.kernel_settings

    patches.attribute(Topology, "from_this_system", staticmethod(from_this_system))
    patches.functions(
        {
            copy_out._isolated_cpus: lambda: facts.kernel_settings.isolated_cpuset or CpuSet(),
            core_speeds.read_core_speeds: lambda _cpus: facts.core_speeds,
            kernel_settings.read_kernel_settings: settings,
            kfd.read_amd_gpus: lambda _machine, _root="": kfd.AmdGpus(facts.amd_gpus, facts.amd_doubt),
            nics.read_notes: lambda _root="/": {},  # what there was to note is in the file
        }
    )


def kernel(patches: Patches, there: Kernel) -> None:
    """Answer from the machine what /proc and /sys would tell of it."""

    def thread_policy(thread: int, _pid: int | None = None) -> ThreadPolicy:
        return ThreadPolicy(*(there.record.policy(thread) or there.get_policy()))

    def nodes_of_cpus(cpus: CpuSet) -> NodeSet:
        return NodeSet(node.os_index for node in there.machine.nodes_of(cpus))

    patches.functions(
        {
            procfs.affinity: there.get_affinity,
            procfs.thread_policy: thread_policy,
            procfs.pages: lambda _pid=None: Pages(),
            procfs.allowed_nodes: lambda _pid=None: there.nodes,
            procfs.nodes_with_memory: lambda: there.nodes,
            procfs.online_nodes: lambda: there.nodes,
            procfs.nodes_of_cpus: nodes_of_cpus,
            procfs.node_memory: lambda _node: None,
        }
    )


def binding(patches: Patches, there: Kernel, record: Record, owner: int | None) -> None:
    """Record what would be bound, and what would be executed.

    Args:
        patches: to replace by.
        there: the machine's kernel.
        record: where it is written down.
        owner: the process that does not become commands; None: all do.
    """
    for name, method in _methods(there).items():
        patches.attribute(Topology, name, method)
    carry_out, become = binding_module.carry_out, execute.become

    def recorded(topology: Topology, applied: Applied, **how: Any) -> None:
        carry_out(topology, applied, **how)
        record.bound(_bound(applied))

    def bind_self(cpus: str, nodes: str = "", memory: str = "none") -> bool:
        there.set_affinity(CpuSet(cpus))
        if memory != "none":
            there.set_policy(MemoryPolicy(memory), NodeSet(nodes))
        there.bound(os.getpid(), "hwnuma")
        return True

    def executed(program: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> NoReturn:
        variables = dict(os.environ if environment is None else environment)
        record.write(
            "executed",
            pid=os.getpid(),
            command=list(command),
            cpus=str(there.get_affinity()),
            environment=variables,
        )
        if os.getpid() == owner:
            raise SystemExit(0)  # it would not come back
        become(program, command, environment)

    patches.functions(
        {
            carry_out: recorded,
            become: executed,
            self_binding.bind_self: bind_self,
            mempolicy.save_policy: lambda: _saved(*there.get_policy()),
            mempolicy.restore_policy: lambda saved: there.set_policy(_MODES[saved.mode], saved.nodes),
            mempolicy.migrate_pages: lambda _source, _target, _pid=0: 0,
        }
    )
    # What this process has bound itself to on this system says nothing there.
    own, open_blocks = outer_affinity.OUTER_AFFINITY, blocks.BLOCKS._open
    outer, own._bound, blocks.BLOCKS._open = own._bound, None, []
    patches.afterwards(lambda: setattr(own, "_bound", outer))
    patches.afterwards(lambda: setattr(blocks.BLOCKS, "_open", open_blocks))


def _bound(applied: Applied) -> Bound:
    place = applied.binding
    # CPUs that were given (exec --cpus) are a place without a plan, which is rank 0's for want of a better.
    rank = place.local_rank if place.local_rank or place.cores else rank_here() or 0
    memory = place.memory if applied.memory_error is None else MemoryPolicy.NONE
    return Bound(
        applied.pid,
        applied.leader,
        place.cpuset,
        rank,
        place.gpu.pci_address if place.gpu is not None else None,
        memory,
        place.nodeset,
        tuple(sorted(applied.moved)),
    )


def _saved(memory: MemoryPolicy, nodes: NodeSet) -> SavedPolicy:
    return SavedPolicy(_MODES.index(memory), nodes)


def _methods(there: Kernel) -> dict[str, Callable[..., Any]]:
    """The methods of Topology that bind. What they refuse by themselves, they still do: another machine's topology."""

    def asked(topology: Topology, what: str, call: Callable[..., Any], *arguments: object) -> Any:
        with topologies._InUse(topology) as handle:
            topologies._to_bind(handle, topology._source)
            try:
                return call(*arguments)
            except OSError as error:
                raise HwlocError(error.errno, f"{what}: {error.strerror}") from None

    def get_thread_cpubind(self: Topology, thread: int = 0) -> CpuSet:
        found: CpuSet = asked(
            self, f"hwloc_linux_get_tid_cpubind of thread {thread}", functools.partial(there.get_affinity, thread)
        )
        return found

    def set_cpubind(self: Topology, cpuset: CpuSet) -> None:
        asked(self, f"hwloc_set_cpubind to CPUs {cpuset or 'none'}", there.set_affinity, cpuset)

    def set_thread_cpubind(self: Topology, cpuset: CpuSet, thread: int = 0) -> None:
        what = f"hwloc_linux_set_tid_cpubind of thread {thread} to CPUs {cpuset or 'none'}"
        asked(self, what, there.set_affinity, cpuset, thread)

    def set_membind(self: Topology, nodeset: NodeSet, policy: MemoryPolicy) -> None:
        what = f"hwloc_set_membind, {policy}, to NUMA nodes {nodeset or 'none'}"
        asked(self, what, there.set_policy, policy, nodeset)

    def get_membind(self: Topology) -> tuple[frozenset[MemoryPolicy], NodeSet]:
        policy, nodes = asked(self, "hwloc_get_membind", there.get_policy)
        return frozenset({policy}), nodes if policy is not MemoryPolicy.NONE else there.nodes

    methods = (get_thread_cpubind, set_cpubind, set_thread_cpubind, set_membind, get_membind)
    return {method.__name__: method for method in methods}


def os_affinity(patches: Patches, there: Kernel) -> None:
    """Let `os` answer from the machine, also for who has imported its functions by name."""
    names = ("sched_getaffinity", "sched_setaffinity", "cpu_count", "process_cpu_count")  # the last: Python 3.13
    known = {name: getattr(os, name) for name in names if hasattr(os, name)}
    patches.functions({function: getattr(there, name) for name, function in known.items()}, everywhere=True)


def nvml(patches: Patches, driver: Driver, *, everybody: bool) -> None:
    """Let hwnuma ask the machine's driver, through a pynvml of its own; and everybody else too, if that is wanted."""
    patches.afterwards(driver.put_under(_own_pynvml()))
    patches.functions(
        {
            nvml_devices.load_pynvml: _own_pynvml,
            watched.ask_within: lambda _limit, ask, **_how: ask(),  # this one answers
        }
    )
    if everybody:
        import pynvml  # only where it is wanted

        patches.afterwards(driver.put_under(pynvml))


@functools.cache
def _own_pynvml() -> ModuleType:
    """pynvml, loaded a second time beside the one that others import."""
    there = sys.modules.get("pynvml")
    spec = there.__spec__ if there is not None else importlib.util.find_spec("pynvml")
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError("there is no pynvml: pip install nvidia-ml-py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["pynvml"] = module  # where it looks for itself as it is loaded
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules["pynvml"]
        if there is not None:
            sys.modules["pynvml"] = there
    return module
