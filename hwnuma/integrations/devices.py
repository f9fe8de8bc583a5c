"""Bind a process to the GPUs that a framework has assigned to it, by their names instead of by a local rank.

Ray and dask-cuda number no ranks on a machine: they give each process some GPUs. The process's share is that of these
GPUs in the plan of all GPUs of the machine, so processes that know nothing of each other do not overlap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hwnuma.errors import GpuNotFoundError
from hwnuma.hwloc.topology import Topology
from hwnuma.launch.bind import bind_job
from hwnuma.launch.job import Job
from hwnuma.launch.place import place_by
from hwnuma.model.gpu import Gpu
from hwnuma.model.machine import Machine
from hwnuma.model.numbers import is_number
from hwnuma.model.options import AffinityMode, DivideAmong, NumaOptions
from hwnuma.model.plan import Binding, Plan
from hwnuma.model.value import replace
from hwnuma.policy.planning import make_plan
from hwnuma.processes import procfs
from hwnuma.processes.outer_affinity import OUTER_AFFINITY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hwnuma.model.forms import NumaOptionsLike


def bind_to_devices(
    devices: Sequence[str | int],
    options: NumaOptionsLike = AffinityMode.NODE,
    *,
    gpus: str | Sequence[Gpu] = "auto",
    gpu_nodes: Mapping[str, int] | None = None,
) -> Binding:
    """Bind this process to the CPUs near some of the machine's GPUs.

    Args:
        devices: the GPUs it drives: numbers as ``nvidia-smi`` has them, or UUIDs.
        options: NumaOptions (ours or torch's), an affinity mode, or its value.
        gpus: all GPUs of the machine: a specification (see `hwnuma.devices.discovery.find_gpus`), or the GPUs.
        gpu_nodes: NUMA nodes that you state, by PCI address or GPU index.

    Returns:
        What the process is bound to now. If binding failed and ``should_fall_back_if_binding_fails`` is set, a
        Binding with an error, and the process is as it was.

    Raises:
        HwnumaError: the GPUs are not there, or the process cannot be placed or bound; it is as it was.
    """
    job = Job.here(options)
    outer = OUTER_AFFINITY.behind(procfs.affinity(0))

    def placed(topology: Topology) -> Binding:
        machine = topology.machine()
        found = _job(job.options, gpus, gpu_nodes).find_gpus(machine)  # once: it may ask the driver

        def planned(usable: Machine) -> tuple[Binding, tuple[str, ...]]:
            made = plan_devices(usable, devices, job.options, gpus=found.all)
            return made[0], (*found.warnings, *made.warnings)

        return place_by(planned, f"the process of GPU {', '.join(map(str, devices))}", machine, outer, job)

    binding = bind_job(job, given=placed)
    if binding.error is None:
        OUTER_AFFINITY.remember(outer, binding.cpuset)
    return binding


def plan_devices(
    machine: Machine,
    devices: Sequence[str | int],
    options: NumaOptions,
    *,
    gpus: str | Sequence[Gpu] = "auto",
    gpu_nodes: Mapping[str, int] | None = None,
) -> Plan:
    """Plan one process that drives some of a machine's GPUs, among all that are there.

    Args:
        machine: with the CPUs that may be used as its allowed ones.
        devices: the process's GPUs, as in `bind_to_devices`.
        options: how to place it. Unless they say otherwise, nodes are divided among all GPUs of the machine.
        gpus: all GPUs of the machine.
        gpu_nodes: NUMA nodes that somebody states.

    Returns:
        A plan of one rank.

    Raises:
        HwnumaError: a device is not there, or none can be found.
    """
    job = _job(options, gpus, gpu_nodes)
    found = job.find_gpus(machine)
    own = gpus_named(found.all, devices)
    divide = DivideAmong.ALL if options.divide_among is DivideAmong.AUTO else options.divide_among
    made = make_plan(
        machine,
        own,
        replace(options, divide_among=divide, gpus_per_rank=len(own), ranks_per_gpu=1),
        ranks=1,
        all_gpus=found.all,
        nccl_nodes=job.nccl_nodes(),
    )
    return replace(made, warnings=(*found.warnings, *made.warnings))


def _job(options: NumaOptions, gpus: str | Sequence[Gpu], gpu_nodes: Mapping[str, int] | None) -> Job:
    """A job with all GPUs of the machine: its environment is empty, so none is hidden."""
    return replace(Job.here(options, gpus=gpus, gpu_nodes=gpu_nodes), environment={})


def gpus_named(gpus: Sequence[Gpu], names: Sequence[str | int]) -> tuple[Gpu, ...]:
    """Pick GPUs by what frameworks call them.

    Args:
        gpus: to pick from.
        names: the driver's numbers, UUIDs (``GPU-…``, ``MIG-…``) or unique beginnings of UUIDs.

    Raises:
        GpuNotFoundError: one is not there, or two could be meant.
    """
    picked = []
    for name in names:
        text = str(name).strip()
        meant = [gpu for gpu in gpus if _is_named(gpu, text)]
        if len(meant) != 1:
            there = ", ".join(f"{gpu.index} {gpu.uuid or ''}".strip() for gpu in gpus) or "none"
            raise GpuNotFoundError(f"{len(meant)} GPUs are called {text!r}, and one was expected: there are {there}")
        picked += meant
    if not picked:
        raise GpuNotFoundError("no GPU is assigned to this process: ask the framework for one, or bind by local rank")
    return tuple(picked)


def _is_named(gpu: Gpu, text: str) -> bool:
    if is_number(text):
        return int(text) == (gpu.index if gpu.device_index is None else gpu.device_index)
    return bool(text) and gpu.uuid is not None and gpu.uuid.lower().startswith(text.lower())
