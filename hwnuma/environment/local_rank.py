"""Which local rank this process is, from what launchers put into the environment (an argument here)."""

from __future__ import annotations

from hwnuma.errors import LocalRankError, OptionError
from hwnuma.model.characters import excerpt, shown
from hwnuma.model.numbers import MOST_RANKS, is_number, whole_number
from hwnuma.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class LauncherVariables(Value):
    """The variables in which one launcher tells the local rank, and the number of ranks on this machine."""

    launcher: str
    rank: str
    size: str = ""


# In the order in which they are believed: what is said to hwnuma itself first, then the innermost launcher that
# starts the workers, then what an outer one may have left in the environment. Sources: torchrun
# (torch/distributed/elastic/agent/server/local_elastic_agent.py), DeepSpeed (deepspeed/launcher/launch.py), the manual
# pages mpirun(1) of Open MPI, MPICH's Hydra and Intel MPI, MVAPICH2's user guide, PALS' mpiexec(1),
# flux-environment(7), srun(1), and IBM Spectrum MPI's jsrun.
# Open MPI 4.1 and 5.0, MPICH 4.0 and Slurm 22.05 are asked themselves in tests/launchers.
VARIABLES = (
    LauncherVariables("hwnuma", "HWNUMA_LOCAL_RANK", "HWNUMA_LOCAL_WORLD_SIZE"),
    LauncherVariables("torchrun and its like", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    LauncherVariables("DeepSpeed", "LOCAL_RANK", "LOCAL_SIZE"),
    LauncherVariables("Open MPI", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    LauncherVariables("MPICH and Intel MPI", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    LauncherVariables("PMI", "PMI_LOCAL_RANK", "PMI_LOCAL_SIZE"),
    LauncherVariables("MVAPICH2", "MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE"),
    LauncherVariables("PALS", "PALS_LOCAL_RANKID", "PALS_LOCAL_SIZE"),
    LauncherVariables("Flux", "FLUX_TASK_LOCAL_ID", "FLUX_JOB_SIZE"),
    LauncherVariables("Slurm", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE"),
    LauncherVariables("jsrun", "JSM_NAMESPACE_LOCAL_RANK", "JSM_NAMESPACE_LOCAL_SIZE"),
)

# What else has to be known to understand these sizes: which node this is, and of how many.
NODE_VARIABLES = ("SLURM_NODEID", "FLUX_JOB_NNODES")


class LocalRank(Value):
    """This process's place among the ranks of its machine.

    Attributes:
        rank: counted from 0.
        size: how many ranks the machine runs, or None if the launcher does not tell.
        variable: the environment variable that told the rank.
        warnings: what contradicts it.
    """

    rank: int
    size: int | None
    variable: str
    warnings: tuple[str, ...] = ()


def local_rank_of(environment: Mapping[str, str]) -> LocalRank:
    """Find the local rank in an environment.

    Args:
        environment: such as ``os.environ``.

    Raises:
        LocalRankError: no launcher's variable is there, or it has a value that makes no sense.
    """
    told = [variables for variables in VARIABLES if environment.get(variables.rank, "") != ""]
    if not told:
        names = ", ".join(dict.fromkeys(variables.rank for variables in VARIABLES))
        raise LocalRankError(
            f"this process's local rank is not known: none of {names} is set; start it with a launcher that sets one, "
            "or say it with --local-rank N (local_rank=N)"
        )
    best = told[0]
    rank = _number(environment, best.rank, 0, MOST_RANKS - 1)
    size = local_size_of(environment, best)
    if size is None:
        # A rank that a script sets (LOCAL_RANK=$SLURM_LOCALID), beside a launcher that tells how many there are.
        agreeing = [each for each in VARIABLES if best.launcher == "hwnuma" or environment.get(each.rank) == str(rank)]
        size = next((each for each in _sizes(environment, agreeing) if each > rank), None)
    if size is not None and rank >= size:
        raise LocalRankError(f"{best.rank}={rank}, but {best.size}={size}: ranks run from 0 to {size - 1}")
    return LocalRank(rank, size, best.rank, tuple(_contradictions(environment, best, rank, told[1:])))


def local_world_size(environment: Mapping[str, str]) -> int | None:
    """How many ranks run on this machine, as the first launcher that tells says; None if none does."""
    return next(_sizes(environment, VARIABLES), None)


def _sizes(environment: Mapping[str, str], launchers: Iterable[LauncherVariables]) -> Iterator[int]:
    """The numbers of local ranks that launchers tell, in the order in which they are believed."""
    sizes = (local_size_of(environment, variables) for variables in launchers)
    return (size for size in sizes if size is not None)


def local_size_of(environment: Mapping[str, str], variables: LauncherVariables) -> int | None:
    """How many local ranks one launcher says there are; None if it does not say, or not for this machine alone."""
    text = environment.get(variables.size, "") if variables.size else ""
    if variables.launcher == "Slurm":
        # "4(x2),3": tasks of each node in turn. Which of them this is, SLURM_NODEID tells.
        return _slurm_size(text, environment.get("SLURM_NODEID", "0"))
    if text == "" or (variables.launcher == "Flux" and environment.get("FLUX_JOB_NNODES") != "1"):
        return None  # Flux tells the size of the whole job
    return _number(environment, variables.size, 1, MOST_RANKS)


def _slurm_size(tasks_per_node: str, node: str) -> int | None:
    """The tasks of one node; None where the text is none of Slurm's, or tells nothing of that node."""
    if not is_number(node, 9):
        return None
    size, ahead = None, int(node)  # how many nodes are ahead of ours in what follows
    for piece in filter(None, tasks_per_node.split(",")):
        tasks, repeated, times = piece.partition("(x")
        times = times.removesuffix(")") if repeated else "1"
        if not (is_number(tasks, 6) and is_number(times, 6)) or piece.endswith(")") != bool(repeated):
            return None
        alike = int(times)
        if 0 <= ahead < alike:
            size = _number({"SLURM_STEP_TASKS_PER_NODE": tasks}, "SLURM_STEP_TASKS_PER_NODE", 0, MOST_RANKS)
        ahead -= alike
    return size


def _number(environment: Mapping[str, str], name: str, least: int, most: int) -> int:
    try:
        return whole_number(environment[name], name, least, most)
    except OptionError:
        text = shown(environment[name])
        raise LocalRankError(f"{name}={text} makes no sense: it is a whole number from {least} to {most}") from None


def _contradictions(
    environment: Mapping[str, str], best: LauncherVariables, rank: int, others: list[LauncherVariables]
) -> list[str]:
    """Say who else tells another rank. One task a machine that starts the ranks itself is no contradiction."""
    said = []
    for other in others:
        value = environment[other.rank]
        alone = value == "0" and local_size_of(environment, other) in (None, 1)
        if value != str(rank) and not alone and best.launcher != "hwnuma":
            said.append(f"{best.rank}={rank} is taken as the local rank, though {other.rank}={excerpt(value)}")
    return said
