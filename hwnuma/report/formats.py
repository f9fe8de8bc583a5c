"""A plan in the words of programs that bind processes themselves. Pure: a plan in, a text out.

Each format gives a place to every rank, by position, so a plan with a rank that cannot be placed has none of them:
leaving it out would shift the others onto each other's CPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from hwnuma.environment.nics import nic_environment
from hwnuma.errors import PlanError
from hwnuma.model.options import MemoryPolicy
from hwnuma.model.plan import Binding, Plan

Format = Callable[[Plan], str]


def plan_as(plan: Plan, name: str) -> str:
    """Write a plan in one of `FORMATS`.

    Args:
        plan: of all ranks of one machine.
        name: a key of `FORMATS`.

    Returns:
        The text, without a newline at its end.

    Raises:
        PlanError: a rank is not placed, or the format cannot say what the plan says.
    """
    for binding in plan:
        if binding.error is not None:
            raise PlanError(
                f"the format {name} needs a place for every rank, and rank {binding.local_rank} has none: "
                f"{binding.error}"
            )
    return FORMATS[name](plan)


# ---- launchers: one text for all ranks -----------------------------------------------------------------------


def _slurm(plan: Plan) -> str:
    """The option of `srun` (srun(1), ``--cpu-bind``): one mask a task of the node, in the order of their local ids."""
    return "--cpu-bind=mask_cpu:" + ",".join(f"0x{binding.cpuset.mask:x}" for binding in plan)


def _openmpi(plan: Plan) -> str:
    """An Open MPI rankfile of physical CPU numbers (mpirun(1), "Rankfiles")."""
    overload = "" if plan.is_disjoint else " --bind-to core:overload-allowed"
    return "\n".join(
        [
            f"# Open MPI 4: mpirun --mca rmaps_rank_file_physical 1 --rankfile THIS -n {len(plan)} COMMAND",
            f"# Open MPI 5: mpirun --map-by rankfile:file=THIS{overload} -n {len(plan)} COMMAND",
            *(f"rank {binding.local_rank}=localhost slot={binding.cpuset}" for binding in plan),
        ]
    )


def _openmpi_pe_list(plan: Plan) -> str:
    """The option of Open MPI 5 and PRRTE: one CPU a rank in turn (``:ordered``), or one list that all ranks share."""
    if all(len(binding.cpuset) == 1 for binding in plan):
        return "--map-by pe-list=" + ",".join(str(binding.cpuset) for binding in plan) + ":ordered"
    if all(binding.cpuset == plan[0].cpuset for binding in plan):
        # Commas only: Open MPI counts a range as one place.
        return "--map-by pe-list=" + ",".join(map(str, plan[0].cpuset))
    raise PlanError(
        "Open MPI's pe-list gives every rank one CPU or all ranks the same ones, and this plan does neither: take the "
        "format openmpi (a rankfile), or put hwnuma exec before the command"
    )


def _mpich(plan: Plan) -> str:
    """The option of MPICH's Hydra (mpiexec(1), ``-bind-to user:``): CPUs with + between them, ranks with commas."""
    return "-bind-to user:" + ",".join("+".join(map(str, binding.cpuset)) for binding in plan)


def _vllm(plan: Plan) -> str:
    """The options of `vllm serve` (its ParallelConfig): a node and a CPU list for each visible GPU, in CUDA's order."""
    for binding in plan:
        if len(binding.nodeset) != 1:
            raise PlanError(
                f"vLLM takes one NUMA node a GPU, and rank {binding.local_rank} has nodes "
                f"{binding.nodeset or 'unknown'}: take a mode that stays on one node (node, exclusive, core-complex)"
            )
    nodes = " ".join(str(binding.nodeset) for binding in plan)
    cpus = " ".join(str(binding.cpuset) for binding in plan)
    return f"--numa-bind --numa-bind-nodes {nodes} --numa-bind-cpus {cpus}"


# ---- wrappers: one line a rank, in rank order ----------------------------------------------------------------


def _lines(words: Callable[[Binding], Iterable[str]]) -> Format:
    """Make a format of one line a rank."""
    return lambda plan: "\n".join(" ".join(words(binding)) for binding in plan)


# numactl(8) 2.0.16; it knows no option to prefer several nodes softly before --preferred-many of that version.
_NUMACTL_POLICIES = {
    MemoryPolicy.PREFERRED: "--preferred-many",
    MemoryPolicy.BIND: "--membind",
    MemoryPolicy.INTERLEAVE: "--interleave",
}


def _numactl(binding: Binding) -> Iterable[str]:
    yield f"numactl --physcpubind={binding.cpuset}"
    if binding.memory is not MemoryPolicy.NONE and binding.nodeset:
        yield f"{_NUMACTL_POLICIES[binding.memory]}={binding.nodeset}"


def _taskset(binding: Binding) -> Iterable[str]:
    yield f"taskset --cpu-list {binding.cpuset}"


def _docker(binding: Binding) -> Iterable[str]:
    yield f"--cpuset-cpus={binding.cpuset}"
    if binding.nodeset:
        yield f"--cpuset-mems={binding.nodeset}"


def _systemd_run(binding: Binding) -> Iterable[str]:
    for setting in _unit_settings(binding):
        yield f"--property={setting}"


def _environment(plan: Plan) -> str:
    """What hands a rank its place, and what tells libraries of its NICs."""
    libraries = plan.options.export_nics
    told = ({} if not libraries else nic_environment(libraries, binding, {}).added for binding in plan)
    rows = (
        (*_place(binding), *(f"{name}={value}" for name, value in variables.items()))
        for binding, variables in zip(plan, told, strict=True)
    )
    return "\n".join(" ".join(row) for row in rows)


def _place(binding: Binding) -> Iterable[str]:
    yield f"HWNUMA_LOCAL_RANK={binding.local_rank}"
    yield f"HWNUMA_CPUS={binding.cpuset}"
    if binding.memory is not MemoryPolicy.NONE:
        yield f"HWNUMA_MEMORY={binding.memory}"
        yield f"HWNUMA_NODES={binding.nodeset}"


# ---- files: one section a rank -------------------------------------------------------------------------------


def _unit_settings(binding: Binding) -> Iterable[str]:
    """What systemd.resource-control(5) calls the CPUs and memory nodes that a unit may use."""
    yield f"AllowedCPUs={binding.cpuset}"
    if binding.nodeset:
        yield f"AllowedMemoryNodes={binding.nodeset}"


def _systemd(plan: Plan) -> str:
    """A drop-in for each rank's service."""
    sections = ("\n".join((f"# rank {binding.local_rank}", "[Service]", *_unit_settings(binding))) for binding in plan)
    return "\n\n".join(sections)


FORMATS: Mapping[str, Format] = {
    "slurm": _slurm,
    "openmpi": _openmpi,
    "openmpi-pe-list": _openmpi_pe_list,
    "mpich": _mpich,
    "vllm": _vllm,
    "numactl": _lines(_numactl),
    "taskset": _lines(_taskset),
    "docker": _lines(_docker),
    "systemd": _systemd,
    "systemd-run": _lines(_systemd_run),
    "env": _environment,
}
"""Every format by its name on the command line, beside the ``table`` and ``json`` of `hwnuma.report.text`."""
