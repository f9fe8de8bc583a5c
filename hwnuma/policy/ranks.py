"""Which rank drives which GPU, and which CPUs may be given out at all."""

from __future__ import annotations

from hwnuma.errors import OptionError
from hwnuma.model.bitmap import CpuSet, union
from hwnuma.model.numbers import MOST_RANKS
from hwnuma.model.options import NumaOptions, RankOrder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hwnuma.model.machine import Machine


def ranks_to_gpus(gpus: int, options: NumaOptions, ranks: int | None = None) -> list[tuple[int, ...]]:
    """Say for each local rank which of the visible GPUs it drives, by place in their order.

    Rank *i* drives GPU *i*, unless several ranks a GPU or several GPUs a rank are asked for. Fewer ranks than that
    leave GPUs without a rank.

    Args:
        gpus: how many are visible; 0 for ranks without GPUs.
        options: `ranks_per_gpu`, `gpus_per_rank` and `rank_order` count here.
        ranks: how many local ranks there are; None for as many as the GPUs allow.

    Raises:
        OptionError: there are more ranks than that or than `MOST_RANKS`, or their number is not positive.
    """
    most = gpus * options.ranks_per_gpu // options.gpus_per_rank
    if ranks is None:
        ranks = most
    if ranks < 1:
        raise OptionError(
            f"{ranks} ranks cannot be planned: say how many run on this machine (--ranks N, or LOCAL_WORLD_SIZE)"
            if not gpus
            else f"{ranks} ranks cannot be planned on {gpus} GPUs with {options.gpus_per_rank} GPUs a rank"
        )
    if max(ranks, options.ranks_per_gpu) > MOST_RANKS:
        raise OptionError(
            f"{max(ranks, options.ranks_per_gpu)} ranks cannot be planned on one machine: {MOST_RANKS} is the most; "
            "set --ranks (or LOCAL_WORLD_SIZE) and --ranks-per-gpu to what this machine runs of the job"
        )
    if gpus == 0:
        return [()] * ranks
    if ranks > most:
        raise OptionError(
            f"{ranks} ranks are more than {gpus} GPUs take with ranks_per_gpu={options.ranks_per_gpu} and "
            f"gpus_per_rank={options.gpus_per_rank}: set --ranks-per-gpu or --gpus-per-rank to what the job does"
        )
    if options.gpus_per_rank > 1:
        width = options.gpus_per_rank
        return [tuple(range(rank * width, (rank + 1) * width)) for rank in range(ranks)]
    if options.rank_order is RankOrder.ROUND_ROBIN:
        return [(rank % gpus,) for rank in range(ranks)]
    return [(rank // options.ranks_per_gpu,) for rank in range(ranks)]


def usable_cpus(machine: Machine, options: NumaOptions) -> CpuSet:
    """The allowed CPUs less those that the options keep back."""
    usable = machine.allowed_cpuset - options.reserved_cpus
    if options.reserve_isolated_cpus:
        usable -= machine.isolated_cpuset
    if options.reserve_first_cores:
        for cache in machine.last_level_caches:
            first = next(machine.cores_within(cache.cpuset), None)
            usable -= first.cpuset if first is not None else CpuSet()
    if options.performance_cores_only and machine.cpu_kinds:
        usable &= machine.cpu_kinds[-1]
    if options.threads_per_core is not None:
        count = options.threads_per_core
        usable = union(CpuSet(list(core.cpuset)[:count]) for core in machine.cores_within(usable))
    return usable
