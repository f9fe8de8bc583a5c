"""Draft: what every rank gets is settled, and a launcher makes a plan of it, or a worker its own binding alone."""

from __future__ import annotations

from hwnuma.errors import NotEnoughCoresError, PlanError
from hwnuma.model.bitmap import Bitmap, CpuSet, NodeSet, joined, union
from hwnuma.model.options import FAST_CORES, AffinityMode, NumaOptions
from hwnuma.model.plan import Binding, Plan
from hwnuma.policy.claims import NOBODY, Claim
from hwnuma.policy.locality import near_cpus
from hwnuma.policy.modes import DIVIDING_MODES, cores_by_preference, preferred_first

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from hwnuma.model.gpu import Gpu
    from hwnuma.model.machine import Machine


class Draft:
    """What every rank of a machine gets; its length is the number of ranks.

    Attributes:
        options: what was asked for.

    Raises:
        PlanError: it does not keep what a plan promises, which is an error of ours.
    """

    def __init__(
        self,
        machine: Machine,
        allowed_cpuset: CpuSet,
        options: NumaOptions,
        gpus_of_ranks: Sequence[tuple[Gpu, ...]],
        claims: Sequence[Claim],
        doubts: Sequence[str],
    ) -> None:
        """Sum up the claims of each rank.

        Args:
            machine: with the CPUs that were given out as its allowed ones.
            allowed_cpuset: these, and those that the options keep back.
            options: what was asked for.
            gpus_of_ranks: which GPUs each rank drives.
            claims: settled, each with CPUs or an error.
            doubts: warnings of where GPUs are.
        """
        self._machine, self._allowed, self.options, self._gpus = machine, allowed_cpuset, options, gpus_of_ranks
        self._doubts, self._preferred = doubts, preferred_first(machine, options)
        self._lots: dict[int, _Lot] = {}
        of_ranks: list[list[Claim]] = [[] for _ in gpus_of_ranks]
        for claim in claims:
            if claim.rank != NOBODY:
                of_ranks[claim.rank].append(claim)
        self._moved = [claim for claim in claims if claim.is_moved and claim.rank != NOBODY]
        self._outcomes = [self._outcome(rank, own) for rank, own in enumerate(of_ranks)]
        _check_promises(machine, options, self._outcomes)

    def _outcome(self, rank: int, claims: Sequence[Claim]) -> _Outcome:
        """What one rank gets: the union of its claims, or the error of the first that failed."""
        mask = 0
        error: PlanError | None = None
        sources: dict[str, None] = {}  # in order, each once
        for claim in claims:
            mask |= claim.mask
            error = error or claim.error
            sources[claim.locality.source] = None
        lot = self._lot(mask)
        if error is None and lot.cores < self.options.minimum_cores:
            error = _too_few_cores(rank, lot.cores, self.options)
        return _Outcome(lot if error is None else self._lot(0), "+".join(filter(None, sources)), error)

    def _lot(self, mask: int) -> _Lot:
        if mask not in self._lots:
            self._lots[mask] = _Lot(self._machine, CpuSet.from_mask(mask))
        return self._lots[mask]

    def __len__(self) -> int:
        return len(self._outcomes)

    def binding(self, rank: int) -> Binding:
        """What one rank gets, or the error that says why it gets nothing."""
        outcome, lot = self._outcomes[rank], self._outcomes[rank].lot
        return Binding(
            local_rank=rank,
            gpus=self._gpus[rank],
            cpuset=lot.cpuset,
            nodeset=lot.nodeset,
            cores=lot.cores,
            locality=outcome.locality,
            near_memory_nodes=lot.near_memory_nodes,
            memory=self.options.memory,
            error=outcome.error,
            cores_by_preference=self._cores_by_preference(outcome),
        )

    def _cores_by_preference(self, outcome: _Outcome) -> tuple[int, ...] | None:
        if not self._preferred or outcome.error is not None:
            return None
        return tuple(cores_by_preference(self._machine, outcome.lot.cpuset.mask, self._preferred))

    def warnings(self, rank: int | None = None) -> tuple[str, ...]:
        """What somebody should know of the whole plan, a sentence each.

        Args:
            rank: one that says it of itself: of where others are it says nothing, since within an affinity of its own
                that may not be true of them.
        """
        of_preference = [] if self._preferred else _no_preference(self.options)
        return (
            *self._doubts,
            *_warnings(self._machine, self.options, self._outcomes),
            *of_preference,
            *_moved_away(claim for claim in self._moved if rank in (None, claim.rank)),
            *_without_near_memory(self._machine, self._outcomes, rank),
        )

    def plan(self) -> Plan:
        """All ranks."""
        bindings = tuple([self.binding(rank) for rank in range(len(self))])
        machine, warnings = self._machine, self.warnings()
        preferred = tuple(map(CpuSet.from_mask, self._preferred))
        return Plan(self.options, machine.source, self._allowed, bindings, warnings, machine.digest, preferred)


class _Lot:
    """A set of CPUs that falls to ranks, and what it amounts to: found out once, however many ranks share it."""

    __slots__ = ("cores", "cpuset", "forbidden_nodes", "near_memory_nodes", "nodeset")

    def __init__(self, machine: Machine, cpuset: CpuSet) -> None:
        self.cpuset = cpuset
        self.cores = machine.count_cores(cpuset)
        nodes = machine.nodes_of(cpuset)
        home = NodeSet([node.os_index for node in nodes])
        self.nodeset = home & machine.allowed_nodeset
        # Those of its CPUs' nodes whose memory may not be used; a node without memory forbids nothing.
        self.forbidden_nodes = NodeSet()
        if self.nodeset != home:
            self.forbidden_nodes = NodeSet([node.os_index for node in nodes if node.memory]) - self.nodeset
        self.near_memory_nodes = NodeSet(
            [node.os_index for node in machine.memory_nodes if not near_cpus(machine, node).isdisjoint(cpuset)]
        )


class _Outcome:
    """What one rank gets: a lot, or an error and the empty lot."""

    __slots__ = ("error", "locality", "lot")

    def __init__(self, lot: _Lot, locality: str, error: PlanError | None) -> None:
        self.lot, self.locality, self.error = lot, locality, error


def _too_few_cores(rank: int, cores: int, options: NumaOptions) -> NotEnoughCoresError:
    return NotEnoughCoresError(
        f"rank {rank} would get {cores} cores, and at least {options.minimum_cores} were asked for: lower "
        "--minimum-cores, choose a wider mode (node, socket), or start fewer ranks"
    )


def _check_promises(machine: Machine, options: NumaOptions, outcomes: Sequence[_Outcome]) -> None:
    """See that the plan is sound, whatever led to it: rather no plan than a wrong one.

    Every rank that is placed has CPUs, all of them to be given out; in `exclusive` no CPU is given twice.
    """
    for rank, outcome in enumerate(outcomes):
        if outcome.error is None and not outcome.lot.cpuset:
            raise _broken(machine, f"rank {rank} has neither CPUs nor an error")
        if not outcome.lot.cpuset <= machine.allowed_cpuset:
            beyond = outcome.lot.cpuset - machine.allowed_cpuset
            raise _broken(machine, f"rank {rank} would get CPUs {beyond}, which are not to be given out")
    if options.affinity_mode is AffinityMode.EXCLUSIVE and not _is_disjoint(outcomes):
        owner: dict[int, int] = {}
        for rank, outcome in enumerate(outcomes):
            for cpu in outcome.lot.cpuset:
                if owner.setdefault(cpu, rank) != rank:
                    raise _broken(machine, f"ranks {owner[cpu]} and {rank} would both get CPU {cpu}")


def _broken(machine: Machine, how: str) -> PlanError:
    return PlanError(
        f"the plan for {machine.source} breaks its promise: {how}; this is an error in hwnuma: please report it with "
        "the machine (hwnuma capture), and take another mode meanwhile"
    )


def _is_disjoint(outcomes: Sequence[_Outcome]) -> bool:
    """Whether no CPU is given to two ranks: masks add up to their union only where no bit is in two of them."""
    masks = [outcome.lot.cpuset.mask for outcome in outcomes]
    return sum(masks) == joined(masks)


def _warnings(machine: Machine, options: NumaOptions, outcomes: Sequence[_Outcome]) -> Iterator[str]:
    """What the reader of a plan should know."""
    mode = options.affinity_mode
    if mode is AffinityMode.CORE_COMPLEX:
        cached = union(cache.cpuset for cache in machine.last_level_caches)
        bare = union(outcome.lot.cpuset for outcome in outcomes) - cached
        if bare:
            yield f"the topology tells of no cache over CPUs {bare}: of each node they count as one core complex"
        if not _is_disjoint(outcomes):
            yield "there are fewer last-level caches than GPUs on a node, so some ranks share one"
    sizes = {outcome.lot.cores for outcome in outcomes if outcome.error is None}
    if mode is AffinityMode.EXCLUSIVE and sizes and max(sizes) - min(sizes) > 1:
        yield f"the ranks' shares are uneven: from {min(sizes)} to {max(sizes)} cores"
    spread = [str(rank) for rank, each in enumerate(outcomes) if each.error is None and "spread" in each.locality]
    if spread:
        ranks = ", ".join(spread)
        yield f"several nodes are equally near to the GPUs of ranks {ranks}: they are dealt out by GPU index"
    if options.reserve_isolated_cpus and not machine.is_this_system and machine.facts is None:
        yield "which CPUs the kernel isolates is known of the running system only: none is left out for that here"
    if options.performance_cores_only and not machine.cpu_kinds:
        yield "the topology does not tell kinds of cores apart: all count as performance cores"


def _moved_away(claims: Iterable[Claim]) -> Iterator[str]:
    """Which ranks are not where their GPUs are, since nothing there may be used."""
    of_places: dict[tuple[int | None, int], set[int]] = {}
    for claim in claims:
        home = None if claim.home is None else claim.home.os_index
        of_places.setdefault((home, claim.node.os_index), set()).add(claim.rank)
    for (home, node), ranks in of_places.items():
        gpus, own = ("its GPU", "is") if len(ranks) == 1 else ("their GPUs", "are")
        where = f"near {gpus}" if home is None else f"of NUMA node {home}, where {gpus} {own}"
        yield f"{_ranks_have(ranks)} no CPU {where}: none there may be used, and node {node} is the nearest with some"


def _without_near_memory(machine: Machine, outcomes: Sequence[_Outcome], rank: int | None) -> Iterator[str]:
    """Which ranks may not use the memory of their own CPUs' nodes."""
    of_nodes: dict[NodeSet, list[int]] = {}
    for number, outcome in enumerate(outcomes):
        if outcome.lot.forbidden_nodes and rank in (None, number):
            of_nodes.setdefault(outcome.lot.forbidden_nodes, []).append(number)
    for nodes, ranks in of_nodes.items():
        yield (
            f"{_ranks_have(ranks)} CPUs of NUMA node{'s' if len(nodes) > 1 else ''} {nodes} and no memory there: the "
            f"cgroup's cpuset.mems allows that of {machine.allowed_nodeset or 'none'} alone; ask the scheduler for "
            "memory of the nodes of the CPUs"
        )


def _ranks_have(ranks: Iterable[int]) -> str:
    numbers = Bitmap(ranks)
    return f"ranks {numbers} have" if len(numbers) > 1 else f"rank {numbers} has"


def _no_preference(options: NumaOptions) -> Iterator[str]:
    """Why nothing is preferred though somebody asked."""
    if options.prefer is None:
        return
    if options.affinity_mode not in DIVIDING_MODES:
        yield f"--prefer does nothing in mode {options.affinity_mode}, which gives every rank all cores of its node"
    elif options.prefer == FAST_CORES:
        yield "neither the topology nor the firmware tells of cores that are faster than others: none is preferred"
    else:
        yield f"--prefer {options.prefer} tells no cores apart: these are none, or all, that ranks can get"
