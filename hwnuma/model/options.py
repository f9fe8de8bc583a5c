"""What a user can ask for: the affinity mode, and NumaOptions with everything that refines it."""

from __future__ import annotations

import enum
from typing import Any

from hwnuma.errors import OptionError
from hwnuma.model.bitmap import CpuSet
from hwnuma.model.value import Value


class _Choice(str, enum.Enum):
    """An enumeration of strings that names its members when a value is none of them."""

    @classmethod
    def _missing_(cls, value: object) -> None:
        known = ", ".join(member.value for member in cls)
        raise OptionError(f"{value!r} is no {cls._title()}: choose one of {known}")

    @classmethod
    def _title(cls) -> str:
        return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in cls.__name__).strip()

    def __str__(self) -> str:
        return str(self.value)


class AffinityMode(_Choice):
    """Which CPUs a rank gets; equal by value to torch.numa.binding.AffinityMode (torch 2.13).

    In the examples, GPU 0 and GPU 1 are on NUMA node 0 of a package with nodes 0 (CPUs 0-7, L3s over 0-3 and 4-7)
    and 1 (CPUs 8-15); every core has one thread.
    """

    NODE = "node"
    """The CPUs of the GPU's NUMA node: 0-7 for both."""

    SOCKET = "socket"
    """The CPUs of all NUMA nodes of the GPU's package: 0-15 for both."""

    EXCLUSIVE = "exclusive"
    """A share of the node's cores for each GPU alone: 0-3 and 4-7. With 7 cores, GPU 0 gets the odd one."""

    CORE_COMPLEX = "core-complex"
    """The cores under one last-level cache of the node: 0-3 and 4-7; shared if there are fewer caches than GPUs."""


class DivideAmong(_Choice):
    """Among which GPUs `exclusive` and `core-complex` divide a node."""

    AUTO = "auto"
    """The visible ones, where one plan covers all ranks; all, where each rank sees only its own GPU."""

    VISIBLE = "visible"
    """The GPUs that the job sees: nothing is left unused, but two jobs on one machine overlap."""

    ALL = "all"
    """Every GPU of the machine: a GPU's share is the same whatever a job sees, and two jobs never overlap."""


class MemoryPolicy(_Choice):
    """The Linux memory policy that goes with the CPUs (set_mempolicy)."""

    NONE = "none"
    """None: pages come from the node of the CPU that touches them first, which is near already."""

    PREFERRED = "preferred"
    """The near nodes, and others when those are full (MPOL_PREFERRED_MANY, or MPOL_PREFERRED)."""

    BIND = "bind"
    """The near nodes only; when they are full, the kernel kills the process (MPOL_BIND)."""

    INTERLEAVE = "interleave"
    """Page by page over the near nodes (MPOL_INTERLEAVE)."""


class UnknownLocality(_Choice):
    """What to do with a GPU of which no source says where it is."""

    ERROR = "error"
    """Do not place its rank, and say how to tell where the GPU is."""

    NODE_ZERO = "node0"
    """Take the CPU-bearing node with the lowest number, as torch does."""


class NoAllowedCpus(_Choice):
    """What to do with a GPU whose node has no CPU that this process may use."""

    ERROR = "error"
    """Do not place its rank, and name the sets that have nothing in common."""

    NEAREST = "nearest"
    """Take the nearest node, by the kernel's distances, that has CPUs to use."""


class RankOrder(_Choice):
    """Which GPU a rank drives when there are more ranks than GPUs."""

    BLOCK = "block"
    """Neighbouring ranks share a GPU: 0 0 1 1."""

    ROUND_ROBIN = "round-robin"
    """Ranks go round the GPUs: 0 1 0 1."""


class NumaOptions(Value):
    """How to place ranks. The first two fields are torch's (torch.numa.binding.NumaOptions), by name and meaning.

    Frozen, hashable and picklable. An affinity mode may be given as its value; so may the other choices.

    Attributes:
        affinity_mode: which CPUs a rank gets.
        should_fall_back_if_binding_fails: when a rank cannot be placed or bound, log the reason as a warning and
            leave the process exactly as it was, instead of raising.
        memory: the memory policy to set with the CPUs.
        divide_among: among which GPUs a node is divided.
        unknown_locality: what to do with a GPU of which nothing says where it is.
        no_allowed_cpus: what to do with a GPU whose CPUs are all disallowed.
        ranks_per_gpu: how many ranks share one GPU. Several only if asked for.
        gpus_per_rank: how many GPUs one rank drives: it gets the union of what each would get.
        rank_order: which GPU a rank drives with several ranks a GPU.
        threads_per_core: how many hardware threads of each core to use; None for all.
        reserved_cpus: CPUs that no rank gets (for the system, interrupts, a storage daemon).
        reserve_first_cores: leave out the first core of each last-level cache (Frontier's "low-noise" cores).
        reserve_isolated_cpus: leave out the CPUs that the kernel was told to isolate (``isolcpus=``). They are not in
            an affinity that was inherited from init, and are where somebody widened it.
        use_idle_nodes: hand the CPUs of nodes without GPUs to the nearest GPUs of the same package.
        minimum_cores: refuse a rank that would get fewer cores than this.
        performance_cores_only: on a hybrid CPU, use its fastest kind of core only.
        keep_outer_mask: stay within the affinity that this process was started with; False widens to all that
            the cgroup allows.
        all_threads: when binding a process that runs already, move the threads too that somebody has pinned.
        migrate: move memory that is already allocated elsewhere to the near nodes.
    """

    affinity_mode: AffinityMode
    should_fall_back_if_binding_fails: bool = False
    memory: MemoryPolicy = MemoryPolicy.NONE
    divide_among: DivideAmong = DivideAmong.AUTO
    unknown_locality: UnknownLocality = UnknownLocality.ERROR
    no_allowed_cpus: NoAllowedCpus = NoAllowedCpus.ERROR
    ranks_per_gpu: int = 1
    gpus_per_rank: int = 1
    rank_order: RankOrder = RankOrder.BLOCK
    threads_per_core: int | None = None
    reserved_cpus: CpuSet = CpuSet()
    reserve_first_cores: bool = False
    reserve_isolated_cpus: bool = False
    use_idle_nodes: bool = False
    minimum_cores: int = 0
    performance_cores_only: bool = False
    keep_outer_mask: bool = True
    all_threads: bool = False
    migrate: bool = False

    def __post_init__(self) -> None:
        """Turn values into enumeration members, and refuse what makes no sense."""
        for name, kind in _CHOICES.items():
            object.__setattr__(self, name, kind(getattr(self, name)))
        object.__setattr__(self, "reserved_cpus", CpuSet(self.reserved_cpus))
        for name, least in (("ranks_per_gpu", 1), ("gpus_per_rank", 1), ("threads_per_core", 1), ("minimum_cores", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise OptionError(f"{name}={value} makes no sense: it is at least {least}")
        if self.ranks_per_gpu > 1 and self.gpus_per_rank > 1:
            raise OptionError("ranks_per_gpu and gpus_per_rank cannot both be above 1")

    @classmethod
    def of(cls, given: Any) -> NumaOptions:
        """Take options in any form that a caller may have.

        Args:
            given: NumaOptions, torch's NumaOptions, an affinity mode, or its value ("node").

        Raises:
            OptionError: it is none of these.
        """
        if isinstance(given, cls):
            return given
        if isinstance(given, str):  # AffinityMode and torch's are strings too
            return cls(AffinityMode(getattr(given, "value", given)))
        if hasattr(given, "affinity_mode"):
            values = {name: getattr(given, name) for name in cls._fields if hasattr(given, name)}
            values["affinity_mode"] = getattr(given.affinity_mode, "value", given.affinity_mode)
            return cls(**values)
        raise OptionError(f"{given!r} is neither NumaOptions nor an affinity mode such as 'node'")


_CHOICES: dict[str, type[_Choice]] = {
    "affinity_mode": AffinityMode,
    "memory": MemoryPolicy,
    "divide_among": DivideAmong,
    "unknown_locality": UnknownLocality,
    "no_allowed_cpus": NoAllowedCpus,
    "rank_order": RankOrder,
}
