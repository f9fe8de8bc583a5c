"""What a user can ask for: the affinity mode, and NumaOptions with everything that refines it."""

from __future__ import annotations

from hwnuma.errors import OptionError
from hwnuma.model.bitmap import CpuSet
from hwnuma.model.characters import shown
from hwnuma.model.choice import Choice
from hwnuma.model.option_table import Count, Option, attributes_text, one_of, switch, values_of
from hwnuma.model.value import Value, field, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from hwnuma.model.forms import (
        AffinityModeName,
        DivideAmongName,
        MemoryPolicyName,
        NoAllowedCpusName,
        NumaOptionsLike,
        RankOrderName,
        UnknownLocalityName,
    )
    from hwnuma.model.value import Converted


class AffinityMode(Choice):
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


class DivideAmong(Choice):
    """Among which GPUs `exclusive` and `core-complex` divide a node."""

    AUTO = "auto"
    """The visible ones, where one plan covers all ranks; all, where each rank sees only its own GPU."""

    VISIBLE = "visible"
    """The GPUs that the job sees: nothing is left unused, but two jobs on one machine overlap."""

    ALL = "all"
    """Every GPU of the machine: a GPU's share is the same whatever a job sees, and two jobs never overlap."""


class MemoryPolicy(Choice):
    """The Linux memory policy that goes with the CPUs (set_mempolicy)."""

    NONE = "none"
    """None: pages come from the node of the CPU that touches them first, which is near already."""

    PREFERRED = "preferred"
    """The near nodes, and others when those are full (MPOL_PREFERRED_MANY, or MPOL_PREFERRED)."""

    BIND = "bind"
    """The near nodes only; when they are full, the kernel kills the process (MPOL_BIND)."""

    INTERLEAVE = "interleave"
    """Page by page over the near nodes (MPOL_INTERLEAVE)."""


class UnknownLocality(Choice):
    """What to do with a GPU of which no source says where it is."""

    ERROR = "error"
    """Do not place its rank, and say how to tell where the GPU is."""

    NODE_ZERO = "node0"
    """Take the CPU-bearing node with the lowest number, as torch does."""


class NoAllowedCpus(Choice):
    """What to do with a GPU whose node has no CPU that this process may use."""

    ERROR = "error"
    """Do not place its rank, and name the sets that have nothing in common."""

    NEAREST = "nearest"
    """Take the nearest node, by the kernel's distances, that has CPUs to use."""


class RankOrder(Choice):
    """Which GPU a rank drives when there are more ranks than GPUs."""

    BLOCK = "block"
    """Neighbouring ranks share a GPU: 0 0 1 1."""

    ROUND_ROBIN = "round-robin"
    """Ranks go round the GPUs: 0 1 0 1."""


class NicPolicy(Choice):
    """Which of the NICs a GPU sends through."""

    NEAR = "near"
    """One of its nearest, spread so that the fullest NIC carries as few GPUs as it can."""

    BALANCE = "balance"
    """The fullest NIC carries as few GPUs as can be, even if some go further; then, as near as can be."""


class NicLibrary(Choice):
    """Whose variables tell a program which NICs to send through."""

    UCX = "ucx"
    """UCX_NET_DEVICES: UCX, and what is built on it (Open MPI, NIXL, rapidsmpf)."""

    NVSHMEM = "nvshmem"
    """NVSHMEM_HCA_LIST, and NVSHMEM_ENABLE_NIC_PE_MAPPING, without which it has no effect."""

    MPICH = "mpich"
    """MPICH_OFI_NIC_POLICY and MPICH_OFI_NIC_MAPPING: HPE Cray MPICH."""

    NCCL = "nccl"
    """NCCL_IB_HCA. NCCL is better left to choose among all NICs itself."""

    VLLM = "vllm"
    """VLLM_GPU_NIC_PCIE_MAPPING and VLLM_NIC_SELECTION_VARS: vLLM tells its workers."""


def _libraries(text: str) -> tuple[NicLibrary, ...]:
    return tuple(NicLibrary(piece.strip()) for piece in text.split(",") if piece.strip())


# The headings of the command line's help, in its order.
PLACES, GPUS, RANKS, MEMORY, NICS, TROUBLE, LATE = (
    "what a rank gets",
    "which GPUs",
    "which rank drives which GPU",
    "memory",
    "which network cards",
    "if something is in the way",
    "of processes that run already",
)

FAST_CORES = "fast-cores"

_FALLBACKS = ("unbound", "nearest")


def _preferred_list(given: str | Iterable[int]) -> str:
    """CPUs that somebody prefers, in list form.

    Raises:
        OptionError: they are none, or make no sense.
    """
    try:
        cpus = CpuSet(given)
    except OptionError as error:
        raise OptionError(f"prefer={given} is neither {FAST_CORES} nor CPUs: {error}") from None
    if not cpus:
        raise OptionError(f"prefer names no CPU: say {FAST_CORES}, or a list such as 0-3,8")
    return str(cpus)


def _fallbacks(text: str) -> frozenset[str]:
    if text.lower() in ("0", "false", "no", "off"):
        return frozenset()
    pieces = {"unbound" if piece.lower() in ("1", "true", "yes", "on") else piece for piece in text.split(",")}
    if not pieces <= {*_FALLBACKS}:
        raise OptionError(f"{shown(text)} is neither {' nor '.join(_FALLBACKS)}")
    return frozenset(pieces)


def _falls_back_to(word: str, yes: Any, no: Any) -> Option:
    """``--fallback`` fills two fields, each of which one of its words is for."""
    return Option(
        "--fallback",
        lambda text: yes if word in _fallbacks(text) else no,
        "if a rank cannot be placed or bound: run it unbound, with the reason as a warning and the process as it was, "
        "or place it on the nearest CPUs that are allowed",
        "|".join(_FALLBACKS),
        TROUBLE,
        example="unbound,nearest",
        bare="unbound",
        words=_FALLBACKS,
    )


class NumaOptions(Value):
    """How to place ranks. The first two fields are torch's (torch.numa.binding.NumaOptions), by name and meaning.

    Frozen, hashable and picklable. An affinity mode may be given as its value; so may the other choices. Each field is
    an option of the command line and a variable of the environment too, declared beside it.
    """

    affinity_mode: Converted[AffinityMode, AffinityMode | AffinityModeName] = field(
        option=Option(
            "--mode",
            AffinityMode,
            "which CPUs a rank gets (default: node)",
            values_of(AffinityMode),
            PLACES,
            example="exclusive",
            unsaid="node",
        ),
    )
    should_fall_back_if_binding_fails: bool = field(default=False, option=_falls_back_to("unbound", yes=True, no=False))
    memory: Converted[MemoryPolicy, MemoryPolicy | MemoryPolicyName] = field(
        default=MemoryPolicy.NONE,
        option=Option(
            "--memory",
            MemoryPolicy,
            "the memory policy to set with the CPUs",
            values_of(MemoryPolicy),
            MEMORY,
            example="bind",
        ),
    )
    divide_among: Converted[DivideAmong, DivideAmong | DivideAmongName] = field(
        default=DivideAmong.AUTO,
        option=Option(
            "--divide-among",
            DivideAmong,
            "which GPUs a node is divided among",
            values_of(DivideAmong),
            PLACES,
            example="all",
        ),
    )
    unknown_locality: Converted[UnknownLocality, UnknownLocality | UnknownLocalityName] = field(
        default=UnknownLocality.ERROR,
        option=Option(
            "--unknown-locality",
            UnknownLocality,
            "a GPU of which nothing says where it is: an error, or torch's node 0",
            values_of(UnknownLocality),
            GPUS,
            example="node0",
        ),
    )
    no_allowed_cpus: Converted[NoAllowedCpus, NoAllowedCpus | NoAllowedCpusName] = field(
        default=NoAllowedCpus.ERROR, option=_falls_back_to("nearest", NoAllowedCpus.NEAREST, NoAllowedCpus.ERROR)
    )
    ranks_per_gpu: int = field(
        default=1,
        option=Option("--ranks-per-gpu", Count(least=1), "how many ranks share a GPU", "N", RANKS, example="2"),
    )
    gpus_per_rank: int = field(
        default=1,
        option=Option(
            "--gpus-per-rank",
            Count(least=1),
            "how many GPUs a rank drives: it gets the union of what each would get",
            "N",
            RANKS,
            example="2",
        ),
    )
    rank_order: Converted[RankOrder, RankOrder | RankOrderName] = field(
        default=RankOrder.BLOCK,
        option=Option(
            "--rank-order",
            RankOrder,
            "with several ranks a GPU: 0 0 1 1, or 0 1 0 1",
            values_of(RankOrder),
            RANKS,
            example="round-robin",
        ),
    )
    threads_per_core: int | None = field(
        default=None,
        option=Option(
            "--threads-per-core", Count(least=1), "use only so many hardware threads of each core", "N", PLACES
        ),
    )
    reserved_cpus: Converted[CpuSet, str | Iterable[int]] = field(
        default=CpuSet(),
        option=Option(
            "--reserve-cpus",
            CpuSet,
            "CPUs that no rank gets (for the system, interrupts, a storage daemon)",
            "LIST",
            PLACES,
            example="0,64",
        ),
    )
    reserve_first_cores: bool = field(
        default=False,
        option=Option(
            "--reserve-first-cores",
            switch,
            'keep back the first core of each last-level cache (Frontier\'s "low-noise" cores)',
            "",
            PLACES,
        ),
    )
    reserve_isolated_cpus: bool = field(
        default=False,
        # They are not in an affinity that was inherited from init, and are where somebody widened it.
        option=Option(
            "--reserve-isolated", switch, "keep back the CPUs that the kernel isolates (isolcpus=)", "", PLACES
        ),
    )
    use_idle_nodes: bool = field(
        default=False,
        option=Option(
            "--use-idle-nodes", switch, "hand nodes without GPUs to the nearest GPUs of their package", "", PLACES
        ),
    )
    minimum_cores: int = field(
        default=0,
        option=Option(
            "--minimum-cores", Count(least=0), "refuse a rank that would get fewer cores", "N", PLACES, example="4"
        ),
    )
    performance_cores_only: bool = field(
        default=False,
        option=Option("--performance-cores", switch, "on a hybrid CPU, use the fastest kind of core only", "", PLACES),
    )
    prefer: Converted[str | None, str | Iterable[int] | None] = field(
        default=None,
        option=Option(
            "--prefer",
            str,
            "in exclusive and core-complex: give each rank its fair part of these first: the cores that are faster, or "
            "those of these CPUs",
            f"{FAST_CORES}|LIST",
            PLACES,
            example=FAST_CORES,
        ),
    )
    keep_outer_mask: bool = field(
        default=True,
        option=Option(
            "--outer-mask",
            one_of({"keep": True, "reset": False}),
            "stay within the affinity that the launcher set, or widen it to all that the cgroup allows",
            "keep|reset",
            TROUBLE,
            example="reset",
        ),
    )
    all_threads: bool = field(
        default=False,
        option=Option("--all-threads", switch, "move the threads too that somebody has pinned", "", LATE),
    )
    migrate: bool = field(
        default=False,
        option=Option(
            "--migrate", switch, "move memory that is already allocated elsewhere to the near nodes", "", LATE
        ),
    )
    nics: str | None = field(
        default=None,
        option=Option(
            "--nics",
            str,
            "the NICs to send through: the machine's rails, none, or these (default: none; auto for --export-nics)",
            "auto|none|NAME,…",
            NICS,
            example="auto",
        ),
    )
    nics_per_rank: int | None = field(
        default=None,
        option=Option(
            "--nics-per-rank",
            Count(least=1),
            "how many NICs a rank gets (default: one for each of its GPUs)",
            "N",
            NICS,
        ),
    )
    nic_policy: NicPolicy = field(
        default=NicPolicy.NEAR,
        option=Option(
            "--nic-policy",
            NicPolicy,
            "a NIC of the nearest, or one that carries less though it is further away",
            values_of(NicPolicy),
            NICS,
            example="balance",
        ),
    )
    export_nics: tuple[NicLibrary, ...] = field(
        default=(),
        option=Option(
            "--export-nics",
            _libraries,
            "the libraries that are told of a rank's NICs, by their own environment variables, unless those are set",
            "ucx,nvshmem,mpich,nccl,vllm",
            NICS,
            example="ucx,nvshmem",
        ),
    )

    def __post_init__(self) -> None:
        """Turn values into what their fields hold, and refuse what makes no sense."""
        for name, option in self._options.items():
            value, default = getattr(self, name), self._defaults.get(name, AffinityMode.NODE)
            if value is default:
                continue
            if isinstance(default, (Choice, CpuSet)):
                object.__setattr__(self, name, type(default)(value))
            elif isinstance(option.convert, Count) and value is not None:
                option.convert.check(name, value)
        object.__setattr__(self, "export_nics", tuple(map(NicLibrary, self.export_nics)))
        if self.prefer is not None and self.prefer != FAST_CORES:
            object.__setattr__(self, "prefer", _preferred_list(self.prefer))
        if self.ranks_per_gpu > 1 and self.gpus_per_rank > 1:
            raise OptionError("ranks_per_gpu and gpus_per_rank cannot both be above 1")
        if self.nics == "none" and self.export_nics:
            raise OptionError("export_nics needs NICs to tell of, and nics is none: leave that out, or say auto")

    @property
    def wants_nics(self) -> bool:
        """Whether NICs have to be looked for."""
        return self.nics != "none" if self.nics is not None else bool(self.export_nics)

    def without_nics(self) -> NumaOptions:
        """The same with no NIC asked for: of a process that runs already nobody asks which it sends through."""
        return replace(self, nics="none", export_nics=())

    @classmethod
    def of(cls, given: NumaOptionsLike) -> NumaOptions:
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


NumaOptions.__doc__ = f"{NumaOptions.__doc__}\n{attributes_text(NumaOptions)}"
