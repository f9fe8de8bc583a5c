"""The one call of a launcher or a worker: local rank, GPU, plan, bind."""

from __future__ import annotations

from hwnuma.errors import HwnumaError, inform, warn
from hwnuma.hwloc.topology import Topology
from hwnuma.launch.job import Job
from hwnuma.launch.place import nodes_of, place
from hwnuma.launch.system import load_this_system
from hwnuma.model.options import AffinityMode, MemoryPolicy
from hwnuma.model.plan import Binding
from hwnuma.model.value import replace
from hwnuma.processes.binding import Applied, apply, check_cpus
from hwnuma.processes.procfs import check_process_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hwnuma.model.forms import NumaOptionsLike
    from hwnuma.model.gpu import Gpu


def bind(
    options: NumaOptionsLike = AffinityMode.NODE,
    *,
    local_rank: int | None = None,
    ranks: int | None = None,
    gpus: str | Sequence[Gpu] = "auto",
    gpu_nodes: Mapping[str, int] | None = None,
    nccl_topology: str | None = None,
) -> Binding:
    """Bind this process, all its threads that nobody pinned, to the CPUs near its GPU.

    Call it first thing in a worker: memory that was touched before stays where it is.

    Args:
        options: NumaOptions (ours or torch's), an affinity mode, or its value: "node", "socket", "exclusive",
            "core-complex".
        local_rank: this process's rank on its machine; by default from the launcher's environment.
        ranks: how many ranks run on this machine; by default from the launcher's environment.
        gpus: which GPUs: a specification (see `hwnuma.devices.discovery.find_gpus`), or the GPUs in rank order.
        gpu_nodes: NUMA nodes that you state, by PCI address or GPU index.
        nccl_topology: an NCCL topology file to learn nodes from; by default ``NCCL_TOPO_FILE``.

    Returns:
        What the process is bound to now. If binding failed and ``should_fall_back_if_binding_fails`` is set, a
        Binding with an error, and the process is as it was.

    Raises:
        HwnumaError: the rank cannot be placed or bound; the process is as it was.
    """
    job = Job.here(options, gpus=gpus, ranks=ranks, gpu_nodes=gpu_nodes, nccl_topology=nccl_topology)
    return bind_job(job, local_rank)


def bind_job(
    job: Job,
    local_rank: int | None = None,
    given: Binding | Callable[[Topology], Binding] | None = None,
    *,
    will_exec: bool = False,
) -> Binding:
    """Bind this process as `bind` does, or to what a launcher planned.

    Args:
        job: what to plan, or how to bind.
        local_rank: this process's rank; by default from the job's environment.
        given: what to bind to, instead of planning by the rank; or what plans it, on this system's topology.
        will_exec: the process will exec a command at once, so what it has allocated itself does not matter.
    """
    try:
        return _place_and_apply(job, local_rank, given, will_exec=will_exec).binding
    except HwnumaError as error:
        return unbound(job, local_rank, error)


def unbound(job: Job, local_rank: int | None, error: HwnumaError) -> Binding:
    """Go on without binding where the job says so; else it is an error."""
    if not job.options.should_fall_back_if_binding_fails:
        raise error
    warn(f"running unbound, as asked: {error}")
    return Binding(local_rank or 0, error=error)


def bind_process(pid: int, binding: Binding, *, all_threads: bool = False, migrate: bool = False) -> Binding:
    """Bind another process, all its threads that nobody pinned.

    Its memory policy cannot be set from outside (Linux); what it has allocated can be moved.

    Args:
        pid: the process, of the same user or anybody's for root.
        binding: what to bind it to.
        all_threads: move pinned threads too.
        migrate: move what it has allocated to the binding's nodes.

    Returns:
        The binding, with `memory_error` if it names a memory policy.

    Raises:
        BindingError: the kernel refused: errno EPERM for another user's process, ESRCH if there is none; or the binding
            has the memory policy bind. All is as it was.
    """
    check_process_id(pid)
    with _topology_to_bind(binding) as topology:
        applied = apply(topology, binding, pid=pid, all_threads=all_threads, migrate=migrate)
    return logged(applied).binding


def _place_and_apply(
    job: Job, local_rank: int | None, given: Binding | Callable[[Topology], Binding] | None, *, will_exec: bool
) -> Applied:
    options = job.options
    known = with_nodes(given) if isinstance(given, Binding) else None
    with topology_for(known, job) as topology:
        applied = apply(
            topology,
            known or (given(topology) if callable(given) else place(topology, job, local_rank)),
            all_threads=options.all_threads,
            migrate=options.migrate and not will_exec,
            will_exec=will_exec,
        )
    return logged(applied)


def with_nodes(given: Binding) -> Binding:
    """What a launcher gave, with the nodes of its CPUs where a memory policy needs them."""
    if given.memory is MemoryPolicy.NONE or given.nodeset:
        return given
    return replace(given, nodeset=nodes_of(given.cpuset))


def topology_for(given: Binding | None, job: Job) -> Topology:
    """What to plan a job and bind through; no more than binding takes where CPUs are given."""
    if given is None:
        return load_this_system(pci=job.gpus != "none", network=job.options.wants_nics)
    return _topology_to_bind(given)


def _topology_to_bind(given: Binding) -> Topology:
    return Topology.for_binding(given.nodeset, check_cpus(given.cpuset))


def logged(applied: Applied) -> Applied:
    """Log what somebody should know of a binding, and where it is as a detail."""
    for warning in applied.warnings:
        warn(warning)
    inform(applied.binding.sentence)
    return applied
