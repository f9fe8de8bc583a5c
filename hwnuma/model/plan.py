"""Plan and Binding: what every rank of a machine gets, and why."""

from __future__ import annotations

import sys
from itertools import islice

from hwnuma.model.bitmap import CpuSet, NodeSet, joined, union
from hwnuma.model.options import AffinityMode, MemoryPolicy, NumaOptions
from hwnuma.model.value import Value

# The package itself as a program: it is found wherever this process found it, on a path or not.
_PROGRAM = f"{__file__.removesuffix('model/plan.py')}__main__.py"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import overload

    from hwnuma.errors import BindingError, HwnumaError
    from hwnuma.model.contract import BindingDict, ErrorDict, PlanDict
    from hwnuma.model.digest import MachineDigest
    from hwnuma.model.gpu import Gpu
    from hwnuma.model.nic import NicMap, Rail  # fields' types: at run time only who asks for NICs needs it
else:
    from _collections_abc import Sequence  # as in bitmap.py: without the package collections

# Of the JSON contracts of plans and verifications: keys may be added to one, and those that are there stay.
SCHEMA = 1

# In that contract: 142 ranks that all share. Every rank more would add as many pairs as there are ranks.
_MOST_PAIRS = 10_000

# What a command was bound to before it started, for whoever verifies it later.
BOUND_CPUS, BOUND_NODES, BOUND_MEMORY = "HWNUMA_BOUND_CPUS", "HWNUMA_BOUND_NODES", "HWNUMA_BOUND_MEMORY"


class Binding(Value):
    """What one rank gets, and why; or the error that says why it gets nothing.

    Attributes:
        local_rank: the rank's number on this machine.
        gpus: the GPUs it drives, in order; empty for a rank without a GPU.
        cpuset: the CPUs it gets, by OS index; empty if there is an error.
        nodeset: the NUMA nodes of these CPUs, whose memory is near and may be used.
        cores: how many cores it gets, at least one thread of each.
        locality: where the knowledge of the GPU's place comes from (see `hwnuma.policy.locality`).
        near_memory_nodes: nodes of memory alone near these CPUs (GPU memory, HBM, CXL). They are named here and
            never taken by a memory policy.
        memory: the memory policy to set.
        error: why the rank cannot be placed, or None.
        memory_error: why the memory policy could not be set though the CPUs are bound, or None.
        nics: the NICs that it sends through; None if nobody asked for any.
        nic_map: the NICs of all ranks and GPUs of the plan; None if nobody asked for any.
        cores_by_preference: how many of its cores are preferred most, next, …, and at last not at all; None if nothing
            is preferred.
    """

    local_rank: int
    gpus: tuple[Gpu, ...] = ()
    cpuset: CpuSet = CpuSet()
    nodeset: NodeSet = NodeSet()
    cores: int = 0
    locality: str = ""
    near_memory_nodes: NodeSet = NodeSet()
    memory: MemoryPolicy = MemoryPolicy.NONE
    error: HwnumaError | None = None
    memory_error: BindingError | None = None
    nics: tuple[Rail, ...] | None = None
    nic_map: NicMap | None = None
    cores_by_preference: tuple[int, ...] | None = None

    @property
    def gpu(self) -> Gpu | None:
        """The rank's GPU, the first of several; None for a rank without one."""
        return self.gpus[0] if self.gpus else None

    @property
    def sentence(self) -> str:
        """In one line where the rank is bound, and why, as mpirun's ``--report-bindings`` says it."""
        said = [f"local rank {self.local_rank}", *map(str, self.gpus), f"CPUs {self.cpuset}"]
        said += [f"NUMA nodes {self.nodeset}"] if self.nodeset else []
        if self.memory is not MemoryPolicy.NONE:
            said.append(f"memory policy {self.memory}{' (not set)' if self.memory_error else ''}")
        known = {"": "as it was handed over", "none": "a share of the machine's cores"}
        return f"{', '.join(said)}: {known.get(self.locality) or f'near its GPU, as known from {self.locality}'}"

    def check(self) -> Binding:
        """Return the binding itself, or raise the error that it carries.

        Raises:
            HwnumaError: the rank cannot be placed.
        """
        if self.error is not None:
            raise self.error
        return self

    def wrap(self, command: Sequence[str]) -> list[str]:
        """Give the command line that binds itself to this and then becomes the command.

        It goes through ``hwnuma exec``: the process id stays, and CPUs and memory policy are set before the command's
        own first instruction. The Python that binds is isolated (``-I``): neither the working directory nor PYTHONPATH
        can put another module in the place of one that it imports; the command sees its environment as it is.

        Raises:
            HwnumaError: the rank cannot be placed.
        """
        self.check()
        wrapped = [sys.executable, "-I", _PROGRAM, "exec", "--cpus", str(self.cpuset)]
        if self.nodeset:  # without a memory policy they are for the record alone, which `hwnuma verify` reads
            wrapped += ["--nodes", str(self.nodeset)]
        if self.memory is not MemoryPolicy.NONE:
            wrapped += ["--memory", str(self.memory)]
        return [*wrapped, "--", *command]

    def as_dict(self) -> BindingDict:
        """Give the rank as plain values, as it stands in `Plan.as_dict`: with ``cpuset``, or with ``error``."""
        row: BindingDict = {"local_rank": self.local_rank, "gpus": [gpu.as_dict() for gpu in self.gpus]}
        if self.nics is not None:
            row["nics"] = [rail.as_dict() for rail in self.nics]
        if self.cores_by_preference is not None:
            row["cores_by_preference"] = list(self.cores_by_preference)
        if self.error is not None:
            error: ErrorDict = {"type": type(self.error).__name__, "message": str(self.error)}
            return {**row, "error": error}
        return {
            **row,
            "cpuset": str(self.cpuset),
            "nodeset": str(self.nodeset),
            "cores": self.cores,
            "locality": self.locality,
            "memory": str(self.memory),
            "near_memory_nodes": str(self.near_memory_nodes),
        }

    def record(self) -> dict[str, str]:
        """The environment variables in which a command is told what it was bound to; `hwnuma verify` reads them."""
        memory = MemoryPolicy.NONE if self.memory_error else self.memory
        return {
            BOUND_CPUS: str(self.cpuset),
            BOUND_NODES: str(self.nodeset),
            BOUND_MEMORY: str(memory),
        }


class Plan(Value, Sequence[Binding]):
    """All ranks of one machine: ``plan[local_rank]`` is a Binding.

    Attributes:
        options: what was asked for.
        source: which machine this is a plan for.
        allowed_cpuset: the CPUs that could be given to ranks.
        bindings: one a rank, in rank order. One that cannot be placed carries its error.
        warnings: what somebody should know who reads the plan, a sentence each.
        machine: what the machine is, as a digest (`hwnuma.model.digest`); None if that is not known.
        preferred: the CPUs that ranks get their fair part of first, the most preferred first; empty if none are.
    """

    options: NumaOptions
    source: str
    allowed_cpuset: CpuSet
    bindings: tuple[Binding, ...]
    warnings: tuple[str, ...] = ()
    machine: MachineDigest | None = None
    preferred: tuple[CpuSet, ...] = ()

    @property
    def mode(self) -> AffinityMode:
        """The affinity mode that was asked for."""
        return self.options.affinity_mode

    @property
    def errors(self) -> tuple[HwnumaError, ...]:
        """The errors of the ranks that cannot be placed."""
        return tuple(binding.error for binding in self.bindings if binding.error is not None)

    @property
    def unused_cpuset(self) -> CpuSet:
        """The allowed CPUs that no rank gets."""
        return self.allowed_cpuset - union(binding.cpuset for binding in self.bindings)

    @property
    def is_disjoint(self) -> bool:
        """Whether no CPU is given to two ranks."""
        masks = [binding.cpuset.mask for binding in self.bindings]
        return sum(masks) == joined(masks)  # equal only where no bit is in two masks

    def overlaps(self) -> Iterator[tuple[int, int, CpuSet]]:
        """The pairs of ranks that share CPUs, as (rank, other rank, the CPUs).

        Many ranks on a node are very many pairs: `sharing` tells the same in groups.
        """
        ranks_of = {} if self.is_disjoint else self._ranks_by_mask()
        shares = {
            mask: sorted((rank, mask & other) for other, ranks in ranks_of.items() if mask & other for rank in ranks)
            for mask in ranks_of
        }
        for binding in self.bindings:
            for rank, shared in shares.get(binding.cpuset.mask, ()):
                if rank > binding.local_rank:
                    yield binding.local_rank, rank, CpuSet.from_mask(shared)

    def sharing(self) -> list[tuple[tuple[int, ...], CpuSet]]:
        """The sets of CPUs that several ranks share, each once with all these ranks, in the order of `overlaps`."""
        groups: dict[int, set[int]] = {}
        first_pair: dict[int, list[int]] = {}
        ranks_of = {} if self.is_disjoint else self._ranks_by_mask()
        for mask, ranks in ranks_of.items():
            for other, others in ranks_of.items():
                pair = ranks[:2] if mask == other else sorted((ranks[0], others[0]))
                shared = mask & other
                if shared and len(pair) > 1:
                    groups.setdefault(shared, set()).update(ranks, others)
                    first_pair[shared] = min(pair, first_pair.get(shared, pair))
        order = sorted(groups, key=first_pair.__getitem__)
        return [(tuple(sorted(groups[shared])), CpuSet.from_mask(shared)) for shared in order]

    def _ranks_by_mask(self) -> dict[int, list[int]]:
        """The ranks that get each set of CPUs."""
        ranks_of: dict[int, list[int]] = {}
        for binding in self.bindings:
            if binding.cpuset:
                ranks_of.setdefault(binding.cpuset.mask, []).append(binding.local_rank)
        return ranks_of

    def as_dict(self) -> PlanDict:
        """Give the plan as plain values, by the contract that ``hwnuma plan --format json`` keeps."""
        made: PlanDict = {
            "schema": SCHEMA,
            "mode": str(self.mode),
            "topology": self.source,
            "machine": None if self.machine is None else str(self.machine),
            "allowed_cpuset": str(self.allowed_cpuset),
            "bindings": [binding.as_dict() for binding in self.bindings],
            "unused_cpuset": str(self.unused_cpuset),
            "overlaps": [{"ranks": list(ranks), "cpuset": str(cpus)} for ranks, cpus in self._pairs_or_groups()],
            "warnings": list(self.warnings),
        }
        if self.preferred:
            made["preferred"] = [str(cpus) for cpus in self.preferred]
        return made

    def _pairs_or_groups(self) -> Iterable[tuple[tuple[int, ...], CpuSet]]:
        """The pairs of ranks that share CPUs; whole groups, where the pairs are too many for anybody to read."""
        pairs = [((one, other), cpus) for one, other, cpus in islice(self.overlaps(), _MOST_PAIRS + 1)]
        return pairs if len(pairs) <= _MOST_PAIRS else self.sharing()

    def __str__(self) -> str:
        """The table that ``hwnuma plan`` prints."""
        from hwnuma.model.plan_text import plan_as_text  # only now: who binds draws no table

        return plan_as_text(self)

    def __repr__(self) -> str:
        ranks, failed = len(self.bindings), len(self.errors)
        text = f"{ranks} rank{'' if ranks == 1 else 's'}, mode {self.mode}, on {self.source}"
        return f"<Plan: {text}{f', {failed} not placed' if failed else ''}>"

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, local_rank: int) -> Binding: ...
        @overload
        def __getitem__(self, local_rank: slice) -> tuple[Binding, ...]: ...

    def __getitem__(self, local_rank: int | slice) -> Binding | tuple[Binding, ...]:
        return self.bindings[local_rank]

    def __len__(self) -> int:
        return len(self.bindings)
