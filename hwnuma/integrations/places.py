"""Plan every rank in the launcher, and hand each its place by environment. What a launcher's own plug-in is made of.

A worker that finds ``HWNUMA_CPUS`` plans nothing: ``hwnuma exec`` and ``hwnuma-python`` bind to it and go on.
"""

from __future__ import annotations

from collections.abc import Mapping

from hwnuma.environment.nics import nic_environment
from hwnuma.environment.omp import OmpVariables, omp_environment
from hwnuma.errors import LocalRankError, PlanError, warn
from hwnuma.launch.job import Job, plan_job
from hwnuma.launch.place import machine_here
from hwnuma.launch.told import Told
from hwnuma.model.bitmap import CpuSet
from hwnuma.model.machine import Machine
from hwnuma.model.option_table import options_of
from hwnuma.model.options import MEMORY, TROUBLE, MemoryPolicy, NumaOptions
from hwnuma.model.plan import Plan
from hwnuma.model.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hwnuma.model.forms import NumaOptionsLike


class Places(Value):
    """Every rank's place, as its launcher planned it.

    Attributes:
        plan: what each rank gets.
        machine: what it was planned for.
        affinity: the launcher's own CPUs, which a rank keeps that runs unbound.
        omp: what to do with OpenMP's variables.
        spent: the launcher's variables of planning, which have done their work. A worker that is handed them empty has
            nothing to read but its place, and takes the quick way of ``hwnuma exec``.
    """

    plan: Plan
    machine: Machine
    affinity: CpuSet
    omp: OmpVariables = OmpVariables.OFF
    spent: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        ranks: int,
        environment: Mapping[str, str],
        options: NumaOptionsLike | None = None,
    ) -> Places:
        """Plan the ranks that this launcher starts on this machine, with one look at the machine and its GPUs.

        Args:
            ranks: how many it starts.
            environment: the launcher's own. Every option of ``hwnuma exec`` counts that is in it (``HWNUMA_MODE``, …);
                ``HWNUMA_CPUS`` limits what is given out, and ``HWNUMA_RANKS`` tells of ranks that others start here.
            options: instead of those in the environment: NumaOptions, ours or torch's, or an affinity mode.

        Raises:
            HwnumaError: nothing can be planned. A single rank that cannot be placed is in the plan: see `check`.
        """
        job, told = Job.asked({}, environment), Told.asked({}, environment)
        if options is not None:
            job = replace(job, options=NumaOptions.of(options))
        job = replace(job, ranks=ranks if job.ranks is None else job.ranks)
        if job.ranks is not None and job.ranks < ranks:
            raise LocalRankError(f"HWNUMA_RANKS={job.ranks}, but {ranks} ranks are started here: unset it, or raise it")
        machine, affinity = machine_here(job.options)
        if told.cpus is not None:
            machine = machine.narrowed(told.cpus)
        spent = [option.variable for option in options_of(NumaOptions, Job) if option.group not in (MEMORY, TROUBLE)]
        return cls(plan_job(machine, job), machine, affinity, told.omp, tuple(filter(environment.get, spent)))

    def check(self) -> None:
        """Stop here if a rank cannot be placed, unless it may run unbound; that is logged as a warning.

        Raises:
            PlanError: with every reason, and the ranks that it stops.
        """
        ranks: dict[str, list[str]] = {}
        for binding in self.plan:
            if binding.error is not None:
                ranks.setdefault(str(binding.error), []).append(str(binding.local_rank))
        reasons = [f"rank {', '.join(numbers)}: {reason}" for reason, numbers in ranks.items()]
        if reasons and not self.plan.options.should_fall_back_if_binding_fails:
            raise PlanError(f"no worker is started, since not every rank can be placed: {'; '.join(reasons)}")
        for reason in reasons:
            warn(f"running unbound, as asked: {reason}")

    def variables(self, local_rank: int, environment: Mapping[str, str]) -> dict[str, str]:
        """The environment variables that hand a rank its place.

        A rank that runs unbound is handed the launcher's own CPUs, so that it does not plan again only to fail again.

        Args:
            local_rank: which one.
            environment: what it has already.
        """
        binding = self.plan[local_rank]
        if binding.error is not None:
            return {"HWNUMA_CPUS": str(self.affinity)}
        # Without a memory policy nothing is done to the nodes; the worker records them for `hwnuma verify`.
        variables = {"HWNUMA_CPUS": str(binding.cpuset), "HWNUMA_NODES": str(binding.nodeset)}
        if binding.memory is not MemoryPolicy.NONE:
            variables["HWNUMA_MEMORY"] = str(binding.memory)
        if self.plan.options.export_nics:
            told = nic_environment(self.plan.options.export_nics, binding, environment)
            for note in told.notes:
                warn(note)
            variables |= told.added
        cores = [core.cpuset for core in self.machine.cores_within(binding.cpuset)]
        return variables | omp_environment(self.omp, cores, environment)
