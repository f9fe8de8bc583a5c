"""A job on this machine, and the plan of all its ranks, or of one."""

from __future__ import annotations

import os

from hwnuma.environment.local_rank import LocalRank, local_world_size
from hwnuma.errors import LocalRankError, OptionError
from hwnuma.model.characters import shown
from hwnuma.model.gpu import FoundGpus, Gpu
from hwnuma.model.numbers import is_number
from hwnuma.model.option_table import Count, Option, said
from hwnuma.model.options import FAST_CORES, GPUS, RANKS, AffinityMode, DivideAmong, NumaOptions, RankOrder
from hwnuma.model.value import Value, field, replace
from hwnuma.policy.planning import draft_plan, make_plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hwnuma.devices.source import GpuSource
    from hwnuma.model.forms import NumaOptionsLike
    from hwnuma.model.machine import Machine
    from hwnuma.model.plan import Binding, Plan
    from hwnuma.policy.draft import Draft


def plan(
    machine: Machine,
    gpus: Sequence[Gpu] | GpuSource,
    options: NumaOptionsLike,
    *,
    ranks: int | None = None,
    all_gpus: Sequence[Gpu] = (),
    nccl_nodes: Mapping[str, int] | None = None,
) -> Plan:
    """Plan every rank of a machine, before the first one starts and without binding anything.

    Args:
        machine: from `Topology.machine`. Its allowed CPUs are given out; on this system narrow them to the
            process's own affinity with ``machine.narrowed(os.sched_getaffinity(0))`` if it has one.
        gpus: the GPUs in the order that the ranks drive them, or a source of them. Empty: ranks without GPUs.
        options: NumaOptions, ours or torch's, or an affinity mode.
        ranks: how many ranks the machine runs; by default one a GPU.
        all_gpus: all GPUs of the machine, where `gpus` are only some and `divide_among` is "all".
        nccl_nodes: NUMA node by PCI address, from `hwnuma.devices.nccl.read_nccl_topology`.

    Returns:
        The plan. A rank that cannot be placed carries its error in it.

    Raises:
        OptionError: the options or the number of ranks make no sense.
        GpuError: the source of GPUs does not work.
    """
    from collections.abc import Sequence  # only here: a process that binds itself does without

    listed = gpus if isinstance(gpus, Sequence) else gpus.gpus()
    made = make_plan(machine, listed, NumaOptions.of(options), ranks=ranks, all_gpus=all_gpus, nccl_nodes=nccl_nodes)
    return _with_nics(made, machine, (*listed, *all_gpus))


def _with_nics(plan: Plan, machine: Machine, known: Sequence[Gpu]) -> Plan:
    """Give the ranks of a plan their NICs, if its options ask for any: among all GPUs of the host."""
    if not plan.options.wants_nics:
        return plan
    from hwnuma.devices.pci import gpus_of_host  # only here: most plans have no use for NICs
    from hwnuma.policy.rails import with_rails  # likewise

    return with_rails(plan, machine, gpus_of_host(machine, tuple(dict.fromkeys(known))))


def _gpu_nodes(text: str) -> dict[str, int]:
    """Read ``GPU=NODE,…``."""
    nodes = {}
    for piece in filter(None, text.split(",")):
        gpu, equals, node = piece.rpartition("=")
        if not equals or not is_number(node.strip()):
            raise OptionError(f"{shown(piece)} is not GPU=NODE, such as 0=1 or 0000:07:00.0=3")
        nodes[gpu.strip()] = Count()(node)
    return nodes


class Job(Value):
    """What is known of a job on this machine, from arguments, the command line and the environment.

    Attributes:
        options: how to place ranks.
        gpus: a specification for `hwnuma.devices.discovery.find_gpus`, or the GPUs themselves in rank order.
        ranks: how many ranks the machine runs; None if nobody says.
        gpu_nodes: NUMA nodes that somebody states, by PCI address or GPU index.
        nccl_topology: an NCCL topology file to learn nodes from, or "".
        environment: for the launcher's and the drivers' variables; see `here` for this process's.
        known_nodes: NUMA node by PCI address, as such a file told elsewhere; they count where none is named.
    """

    options: NumaOptions
    gpus: str | Sequence[Gpu] = field(
        default="auto",
        option=Option(
            "--gpus",
            str,
            "auto, nvml, nvidia, amd, intel, none, or in rank order indexes (0,2 or 4-7) or PCI addresses",
            "SPEC",
            GPUS,
            example="none",
        ),
    )
    ranks: int | None = field(
        default=None,
        option=Option(
            "--ranks", Count(), "how many ranks this machine runs (default: one a GPU, or LOCAL_WORLD_SIZE)", "N", RANKS
        ),
    )
    gpu_nodes: Mapping[str, int] = field(
        default={},
        option=Option(
            "--gpu-node",
            _gpu_nodes,
            "the NUMA nodes of GPUs, by index or PCI address: 0=1,…",
            "GPU=N,…",
            GPUS,
            example="0=1",
        ),
    )
    nccl_topology: str = field(
        default="",
        option=Option(
            "--nccl-topo",
            str,
            "an NCCL topology file that tells the GPUs' nodes (NCCL_TOPO_FILE)",
            "FILE",
            GPUS,
            example="topo.xml",
        ),
    )
    environment: Mapping[str, str] = {}
    known_nodes: Mapping[str, int] = {}

    @classmethod
    def here(
        cls,
        options: NumaOptionsLike = AffinityMode.NODE,
        *,
        gpus: str | Sequence[Gpu] = "auto",
        ranks: int | None = None,
        gpu_nodes: Mapping[str, int] | None = None,
        nccl_topology: str | None = None,
    ) -> Job:
        """Make a job of this process: what launchers and drivers tell is what its environment says now.

        Args:
            options: NumaOptions (ours or torch's), an affinity mode, or its value.
            gpus: a specification, or the GPUs themselves in rank order.
            ranks: how many ranks the machine runs.
            gpu_nodes: NUMA nodes that somebody states, by PCI address or GPU index.
            nccl_topology: an NCCL topology file to learn nodes from; by default ``NCCL_TOPO_FILE``.

        Raises:
            OptionError: the options make no sense.
        """
        environment = dict(os.environ)
        if nccl_topology is None:
            nccl_topology = environment.get("NCCL_TOPO_FILE", "")
        return cls(NumaOptions.of(options), gpus, ranks, gpu_nodes or {}, nccl_topology, environment)

    @classmethod
    def asked(cls, texts: Mapping[str, str | None], environment: Mapping[str, str]) -> Job:
        """Make a job of what the command line and the environment say.

        Args:
            texts: the command line's, by `Option.name`; empty where there is none.
            environment: its ``HWNUMA_…`` variables count where the command line says nothing.

        Raises:
            OptionError: a value makes no sense, or two do not go together.
        """
        own = {"nccl_topology": environment.get("NCCL_TOPO_FILE", ""), **said(cls, texts, environment)}
        return cls(NumaOptions(**said(NumaOptions, texts, environment)), **own, environment=environment)

    def on(self, machine: Machine) -> Job:
        """The job as it is on a machine: on another one that was captured, the variables count that were set there.

        What this job says itself (its options, GPUs, ranks, nodes, an NCCL file that is named) counts all the same.
        """
        if machine.facts is None:
            return self
        from hwnuma.captures.variables import environment_there  # only for a captured machine

        named = "" if self.nccl_topology == self.environment.get("NCCL_TOPO_FILE", "") else self.nccl_topology
        return replace(
            self,
            environment=environment_there(machine.facts, self.environment),
            nccl_topology=named,
            known_nodes=dict(machine.facts.nccl_nodes),
        )

    def find_gpus(self, machine: Machine) -> FoundGpus:
        """The job's GPUs.

        Raises:
            GpuError: there are none, or none can be found out.
        """
        if self.gpus == "none":
            return FoundGpus((), (), "none")
        if isinstance(self.gpus, str):
            from hwnuma.devices.discovery import find_gpus  # only where devices are asked for

            return find_gpus(self.gpus, machine, self.environment, gpu_nodes=self.gpu_nodes)
        given = tuple(self.gpus)
        return FoundGpus(given, given, "given")

    def nccl_nodes(self) -> dict[str, int]:
        """NUMA node by PCI address, from the NCCL topology file if there is one."""
        if not self.nccl_topology:
            return dict(self.known_nodes)
        from hwnuma.devices.nccl import read_nccl_topology  # only where a file is named

        return read_nccl_topology(self.nccl_topology)


def plan_job(machine: Machine, job: Job, found: FoundGpus | None = None) -> Plan:
    """Plan all ranks of a job on a machine, as a launcher sees it: all visible GPUs at once.

    Args:
        machine: with the CPUs that may be used as its allowed ones.
        job: what to plan.
        found: the job's GPUs, if they were looked for already.
    """
    machine, job = _there(machine, job)
    found = found or job.find_gpus(machine)
    made = _with_nics(_draft(machine, job, found).plan(), machine, (*found.visible, *found.all))
    return replace(made, warnings=(*found.warnings, *made.warnings))


def _there(machine: Machine, job: Job) -> tuple[Machine, Job]:
    """The machine and the job as they were where the machine was captured, if it was: within the affinity there."""
    affinity = machine.facts.affinity if machine.facts is not None and job.options.keep_outer_mask else None
    return machine if affinity is None else machine.narrowed(affinity), job.on(machine)


def _draft(machine: Machine, job: Job, found: FoundGpus) -> Draft:
    ranks = job.ranks if job.ranks is not None or found.visible else local_world_size(job.environment)
    if ranks is None and not found.visible:
        raise OptionError(f"without GPUs, the number of ranks has to be known: {_how_to_say_ranks(machine)}")
    if job.options.prefer == FAST_CORES and machine.is_this_system and not machine.cpu_kinds:
        from hwnuma.hwloc.core_speeds import read_core_speeds  # only where it is asked for

        machine = machine.with_core_speeds(read_core_speeds(machine.cpuset))
    return draft_plan(machine, found.visible, job.options, ranks=ranks, all_gpus=found.all, nccl_nodes=job.nccl_nodes())


def _one_of(draft: Draft, rank: int, machine: Machine, found: FoundGpus) -> tuple[Binding, tuple[str, ...]]:
    """One rank's binding, and the plan's warnings; the whole of it is made only where NICs are given out."""
    if not draft.options.wants_nics:
        return draft.binding(rank), (*found.warnings, *draft.warnings(rank))
    made = _with_nics(draft.plan(), machine, (*found.visible, *found.all))
    return made[rank], (*found.warnings, *made.warnings)


def _how_to_say_ranks(machine: Machine) -> str:
    if machine.is_this_system:
        return "say --ranks N (ranks=N), or set LOCAL_WORLD_SIZE"
    return "say --ranks N (ranks=N), since LOCAL_WORLD_SIZE tells of this machine, and another one is planned for"


def plan_rank(
    machine: Machine, job: Job, rank: LocalRank, found: FoundGpus | None = None
) -> tuple[Binding, tuple[str, ...]]:
    """Plan one rank from inside it: the same answer as in the plan of all, where this process sees all GPUs.

    A process that sees only its own GPU (a CUDA_VISIBLE_DEVICES or a Slurm allocation for each rank) drives that one,
    and a node is then divided among all of the machine's GPUs that can be known, unless `divide_among` says otherwise.

    Args:
        machine: with the CPUs that may be used as its allowed ones.
        job: what to plan.
        rank: this process's place.
        found: the job's GPUs, if they were looked for already.

    Returns:
        The binding, which may carry an error, and warnings.
    """
    machine, job = _there(machine, job)
    found = found or job.find_gpus(machine)
    size = job.ranks if job.ranks is not None else rank.size
    if found.visible and _sees_only_its_own(found, job.options, rank.rank, size):
        binding, warnings = _plan_alone(machine, job, found, rank.rank, size)
        return replace(binding, local_rank=rank.rank), (*rank.warnings, *warnings)
    if not found.visible and size is None:
        raise LocalRankError(
            f"without GPUs, the number of ranks on this machine has to be known: {_how_to_say_ranks(machine)}"
        )
    draft = _draft(machine, replace(job, ranks=size), found)
    if rank.rank >= len(draft):
        raise LocalRankError(_no_such_rank(rank.rank, len(draft), len(found.visible)))
    binding, warnings = _one_of(draft, rank.rank, machine, found)
    return binding, (*rank.warnings, *warnings)


def _no_such_rank(rank: int, ranks: int, gpus: int) -> str:
    if not gpus:
        return (
            f"local rank {rank} is none of the {ranks} ranks of this machine, which count from 0 to {ranks - 1}: say "
            "how many there are with --ranks N (ranks=N), or which one this is with --local-rank N (local_rank=N)"
        )
    return (
        f"local rank {rank} has no GPU: {gpus} are visible, for {ranks} ranks; see --ranks-per-gpu, or --gpus none for "
        "ranks without GPUs"
    )


def _sees_only_its_own(found: FoundGpus, options: NumaOptions, rank: int, size: int | None) -> bool:
    """Whether the visible GPUs are this rank's alone: just as many as it drives, and too few for all ranks."""
    ranks = max(rank + 1, size or 0)
    return len(found.visible) == options.gpus_per_rank and len(found.visible) * options.ranks_per_gpu < ranks


def _plan_alone(
    machine: Machine, job: Job, found: FoundGpus, rank: int, size: int | None
) -> tuple[Binding, tuple[str, ...]]:
    """Plan the ranks of the visible GPUs, and give this rank its share of them."""
    options = job.options
    if options.divide_among is DivideAmong.AUTO:
        options = replace(options, divide_among=DivideAmong.ALL)
    draft = _draft(machine, replace(job, options=options, ranks=options.ranks_per_gpu), found)
    own, warnings = _one_of(draft, _place_on_gpu(options, rank, size), machine, found)
    if options.affinity_mode is AffinityMode.EXCLUSIVE and len(found.all) == len(found.visible) and (size or 2) > 1:
        warnings += (
            "this process can see no GPU but its own, so it cannot know which others share its node: exclusive shares "
            "may overlap; plan in the launcher, or give every rank the whole list of GPUs",
        )
    if own.nic_map is not None:
        # The ranks of this plan are not those of the machine.
        own = replace(own, nic_map=replace(own.nic_map, by_rank=()))
    return own, warnings


def _place_on_gpu(options: NumaOptions, rank: int, size: int | None) -> int:
    """Which of the ranks of its GPU a rank is, from 0, where it sees that GPU alone.

    Raises:
        LocalRankError: it depends on the number of ranks, which nobody says.
    """
    if options.ranks_per_gpu == 1 or options.rank_order is RankOrder.BLOCK:
        return rank % options.ranks_per_gpu
    if size is None:
        raise LocalRankError(
            "with the rank order round-robin and a single GPU in sight, the number of ranks on this machine has to be "
            "known: say --ranks N, or set LOCAL_WORLD_SIZE"
        )
    return rank // -(-size // options.ranks_per_gpu)
