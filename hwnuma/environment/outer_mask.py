"""Who may have bound this process before us, as the environment tells, and how to turn that off. Pure."""

from __future__ import annotations

from hwnuma.model.characters import excerpt
from hwnuma.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from hwnuma.model.bitmap import CpuSet


class OuterBinder(Value):
    """One that binds processes by itself: its name, a variable that shows it is there, and how to stop it."""

    name: str
    variables: tuple[str, ...]
    remedy: str


# The innermost first: what is nearest to the process is the likeliest to have bound it last. Open MPI 4.1 and 5.0,
# MPICH 4.0 and Slurm 22.05 are started by tests/launchers, and named rightly there. The others are by their documents
# alone: Intel MPI's developer reference (I_MPI_PIN; its script mpirun exports I_MPI_MPIRUN), MVAPICH2's user guide
# (MV2_ENABLE_AFFINITY; it binds in MPI_Init), mpiexec(1) of HPE PALS, IBM Spectrum MPI's jsrun, flux-run(1).
BINDERS = (
    OuterBinder("Open MPI's mpirun", ("OMPI_COMM_WORLD_SIZE",), "mpirun --bind-to none"),
    OuterBinder("Intel MPI", ("I_MPI_MPIRUN", "I_MPI_PIN"), "I_MPI_PIN=0"),
    OuterBinder("MVAPICH2", ("MV2_COMM_WORLD_LOCAL_RANK",), "MV2_ENABLE_AFFINITY=0"),
    OuterBinder("PALS' mpiexec", ("PALS_LOCAL_RANKID",), "mpiexec --cpu-bind none"),
    OuterBinder("jsrun", ("JSM_NAMESPACE_LOCAL_RANK",), "jsrun --bind none"),
    OuterBinder("Flux", ("FLUX_TASK_LOCAL_ID",), "flux run -o cpu-affinity=off"),
    # Hydra binds only where it is told to, and says so. (PMI_RANK would also be that of `srun --mpi=pmi2`.)
    OuterBinder("MPICH's mpiexec", ("HYDRA_USER_PROVIDED_BINDING",), "mpiexec -bind-to none"),
    OuterBinder("hwnuma exec", ("HWNUMA_BOUND_CPUS",), "one hwnuma for each rank, not one around the launcher too"),
    OuterBinder("Slurm", ("SLURM_CPU_BIND", "SLURM_CPU_BIND_TYPE", "SLURM_JOB_ID"), "srun --cpu-bind=none"),
)

# These bind from within, when the OpenMP runtime starts.
_OPENMP = ("OMP_PROC_BIND", "OMP_PLACES", "KMP_AFFINITY", "GOMP_CPU_AFFINITY")


def outer_binders(environment: Mapping[str, str]) -> list[str]:
    """Say who probably has bound this process, likeliest first, each with how to turn it off."""
    said = [f"{binder.name} ({variable} is set: {binder.remedy})" for binder, variable in _binders(environment)]
    openmp = [name for name in _OPENMP if environment.get(name, "").lower() not in ("", "false", "none", "disabled")]
    if openmp:
        said.append(
            f"OpenMP ({openmp[0]}={excerpt(environment[openmp[0]])} pins the first thread: bind before OpenMP starts, "
            "or use hwnuma exec)"
        )
    return said or ["taskset, numactl, a service's CPUAffinity= or a batch system: start it without"]


def _binders(environment: Mapping[str, str]) -> list[tuple[OuterBinder, str]]:
    """The launchers that are there and do not say that they do not bind, each with a variable that shows it."""
    found = []
    for binder in BINDERS:
        there = [name for name in binder.variables if environment.get(name, "") != ""]
        if there and not _is_off(environment, there):
            found.append((binder, there[0]))
    return found


def _is_off(environment: Mapping[str, str], variables: list[str]) -> bool:
    """Whether the launcher says itself that it does not bind."""
    said = environment.get("SLURM_CPU_BIND", environment.get("SLURM_CPU_BIND_TYPE", ""))
    slurm_off = variables[0].startswith("SLURM_") and "none" in said.replace(":", ",").split(",")
    pin_off = environment.get("I_MPI_PIN", "").lower() in ("0", "no", "off", "disable")
    # Open MPI 4's daemon tells of a rank that it has bound; Open MPI 5 tells nothing.
    open_mpi_off = "OMPI_MCA_orte_launch" in environment and "OMPI_MCA_orte_bound_at_launch" not in environment
    return (
        slurm_off
        or (variables[0].startswith("I_MPI_") and pin_off)
        or (variables[0].startswith("OMPI_") and open_mpi_off)
    )


def explain(inherited: CpuSet, environment: Mapping[str, str]) -> str:
    """Say in a clause what the process may run on because of others, where that comes from and what can be done."""
    return (
        f"this process was started with an affinity of CPUs {inherited}, probably by "
        f"{' or '.join(outer_binders(environment))}; --outer-mask reset (keep_outer_mask=False) uses all that the "
        "cgroup allows"
    )


_BY_GPU = "srun --cpu-bind=none, or hwnuma's --outer-mask reset, lets hwnuma place each rank by its GPU"


def explain_order(inherited: CpuSet, environment: Mapping[str, str]) -> str:
    """Say in a clause why ranks may have CPUs in another order than GPUs, and what can be done.

    Args:
        inherited: the affinity that this process was started with.
        environment: its environment.
    """
    launchers = [binder.name for binder, _ in _binders(environment)]
    if launchers[:1] != ["Slurm"]:
        return explain(inherited, environment)
    distribution = environment.get("SLURM_DISTRIBUTION", "")
    if _over_sockets(distribution) == "block":
        said = f"SLURM_DISTRIBUTION={excerpt(distribution)} goes socket by socket"
        return f"{said}, but the tasks do not fill the node, or the GPUs are numbered otherwise: {_BY_GPU}"
    said = f"SLURM_DISTRIBUTION={excerpt(distribution)}" if distribution else "SLURM_DISTRIBUTION is not set"
    return (
        f"Slurm deals sockets out to tasks in turn unless it is told otherwise ({said}): {_BY_GPU}; srun "
        "--distribution=block:block goes socket by socket, where the tasks fill the node"
    )


def _over_sockets(distribution: str) -> str:
    """How Slurm deals sockets out: the second method of ``--distribution`` (srun(1)); "" is its default."""
    methods = distribution.lower().partition(",")[0].split(":")
    return methods[1].strip() if len(methods) > 1 else ""
