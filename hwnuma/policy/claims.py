"""Claims: which rank wants CPUs of which node, since its GPU is there."""

from __future__ import annotations

from hwnuma.errors import NoAllowedCpusError, PlanError, UnknownLocalityError
from hwnuma.model.options import AffinityMode, DivideAmong, NumaOptions
from hwnuma.policy.locality import Locality

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from hwnuma.model.gpu import Gpu
    from hwnuma.model.machine import Machine, NumaNode

NOBODY = -1
"""The rank of a claim that holds a share free for another job."""


class Claim:
    """One rank's wish for CPUs of the node that its GPU is on.

    Attributes:
        rank: who gets it, or `NOBODY`.
        gpu: the place of its GPU among those that the machine is divided among.
        locality: the node, and who says so.
        mask: the CPUs that it got so far, as a bit mask.
        error: why it gets nothing.
        subject: what to call it in messages.
        home: where its GPU is, if it was moved away from there: a node, or None where no node is near.
        is_moved: whether it was moved.
    """

    __slots__ = ("error", "gpu", "home", "is_moved", "locality", "mask", "rank", "subject")

    def __init__(
        self, rank: int, gpu: int, locality: Locality, *, error: PlanError | None = None, subject: Gpu | str = ""
    ) -> None:
        self.rank, self.gpu, self.locality = rank, gpu, locality
        self.mask, self.error, self.subject = 0, error, subject
        self.home: NumaNode | None = None
        self.is_moved = False

    @property
    def node(self) -> NumaNode:
        """The node that it is on."""
        return self.locality.nodes[0]

    def move_to(self, node: NumaNode, home: NumaNode | None) -> None:
        """Take it to a node that is not its GPU's, since there is nothing to use at home."""
        self.locality, self.error = Locality((node,), "nearest"), None
        self.home, self.is_moved = home, True


def gpus_to_divide_among(
    gpus: Sequence[Gpu], rank_gpus: Sequence[tuple[int, ...]], options: NumaOptions, all_gpus: Sequence[Gpu]
) -> list[tuple[Gpu, list[int]]]:
    """The GPUs that nodes are divided among, in the order that ties are broken by, each with the ranks that drive it.

    Args:
        gpus: the visible ones.
        rank_gpus: the places in `gpus` of those that each rank drives.
        options: `divide_among` counts here.
        all_gpus: all GPUs of the machine.
    """
    drivers: dict[int, list[int]] = {}
    for rank, places in enumerate(rank_gpus):
        for place in places:
            drivers.setdefault(place, []).append(rank)
    # `auto` was decided by whoever knows what other ranks see (hwnuma.launch.job); a plan for all ranks needs no more.
    order = [(gpu, drivers.get(place) or [NOBODY]) for place, gpu in enumerate(gpus)]
    if options.divide_among is DivideAmong.ALL:
        # By the machine's own numbers, and as many claims for each GPU, whoever sees or drives it, so that all jobs
        # divide alike; among visible GPUs alone, in the job's order.
        visible = {gpu.index for gpu in gpus}
        order += [(gpu, [NOBODY]) for gpu in all_gpus if gpu.index not in visible]
        order = [(gpu, ranks + [NOBODY] * (options.ranks_per_gpu - len(ranks))) for gpu, ranks in order]
        order.sort(key=lambda entry: entry[0].index)
    return order


def gpu_claims(
    machine: Machine,
    order: Sequence[tuple[Gpu, Sequence[int]]],
    localities: Sequence[Locality],
    options: NumaOptions,
) -> list[Claim]:
    """The claims of ranks with GPUs.

    Args:
        machine: where the GPUs are.
        order: the GPUs with their ranks, from `gpus_to_divide_among`.
        localities: where each of these GPUs is.
        options: in `socket`, a GPU of which nothing says on which node it is, is in the package if there is only one.
    """
    in_one_package = options.affinity_mode is AffinityMode.SOCKET and _is_one_package(machine)
    claims = []
    for place, ((gpu, ranks), found) in enumerate(zip(order, localities, strict=True)):
        # A wrong node that somebody states stays an error.
        if in_one_package and gpu.numa_node is None and isinstance(found.error, UnknownLocalityError):
            locality = Locality(machine.cpu_nodes[:1], "single-package")
        else:
            locality = found
        claims += [Claim(rank, place, locality, error=locality.error, subject=gpu) for rank in ranks]
    return claims


def _is_one_package(machine: Machine) -> bool:
    return len({machine.package_cpus(node).mask for node in machine.cpu_nodes}) == 1


def spread_claims(machine: Machine, ranks: int) -> list[Claim]:
    """Claims of ranks without GPUs, spread evenly over the nodes by their cores.

    Rank *i* of *n* goes to the node of core ``i * cores // n``, nodes in order: neighbouring ranks share a node, and
    no node gets more ranks than cores as long as there are enough of them.
    """
    of_cores: list[Locality] = []  # where each core is
    for node in machine.cpu_nodes:
        of_cores += [Locality((node,), "none")] * machine.count_cores(node.cpuset & machine.allowed_cpuset)
    if not of_cores:
        error = NoAllowedCpusError(
            f"no NUMA node of {machine.called} has a CPU that may be used: allowed CPUs are "
            f"{machine.allowed_cpuset or 'none'}"
        )
        return [Claim(rank, rank, Locality(error=error), error=error) for rank in range(ranks)]
    return [Claim(rank, rank, of_cores[rank * len(of_cores) // ranks]) for rank in range(ranks)]
