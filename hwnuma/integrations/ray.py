"""Ray: bind an actor or a task to the CPUs near the GPUs that Ray has given it.

::

    @ray.remote(num_gpus=1)
    class Worker:
        def __init__(self):
            hwnuma.integrations.ray.bind("exclusive")   # first, before torch is imported

    captures = hwnuma.integrations.ray.capture_all("DIR")    # every machine of the cluster, for hwnuma fleet DIR

In Ray Train, `bind` is the first line of the training loop, or ``train_loop_per_worker=Bound(train_loop, "node")``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import ParamSpec, TypeVar

import ray

from hwnuma.errors import GpuNotFoundError
from hwnuma.integrations.captures import capture_here, gathered
from hwnuma.integrations.devices import bind_to_devices
from hwnuma.launch import bound
from hwnuma.launch.capture import Capture
from hwnuma.model.gpu import Gpu
from hwnuma.model.options import AffinityMode, NumaOptions
from hwnuma.model.plan import Binding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hwnuma.model.forms import NumaOptionsLike

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def bind(
    options: NumaOptionsLike = AffinityMode.NODE,
    *,
    gpus: str | Sequence[Gpu] = "auto",
    gpu_nodes: Mapping[str, int] | None = None,
) -> Binding:
    """Bind this actor's or task's process to the CPUs near its GPUs (``ray.get_gpu_ids()``).

    Ray reuses a process for later tasks, and this binds it anew to what the next task has. Two actors that share a
    GPU (``num_gpus=0.5``) share its CPUs too.

    Args:
        options: NumaOptions (ours or torch's), an affinity mode, or its value.
        gpus: all GPUs of the machine: a specification (see `hwnuma.devices.discovery.find_gpus`), or the GPUs.
        gpu_nodes: NUMA nodes that you state, by PCI address or GPU index.

    Raises:
        GpuNotFoundError: Ray has given this process no GPU.
        HwnumaError: it cannot be placed or bound; the process is as it was.
    """
    devices = ray.get_gpu_ids()
    if not devices:
        raise GpuNotFoundError(
            "Ray has given this process no GPU: ask for one (num_gpus=1), or bind by rank with "
            'hwnuma.bind(options, local_rank=…, ranks=…, gpus="none")'
        )
    return bind_to_devices(devices, options, gpus=gpus, gpu_nodes=gpu_nodes)


class Bound(bound.Bound[_Parameters, _Result]):
    """A function that binds its Ray process first, such as Ray Train's ``train_loop_per_worker``.

    Picklable if the function is, and of the same name and signature.
    """

    def __init__(
        self,
        function: Callable[_Parameters, _Result],
        options: NumaOptionsLike = AffinityMode.NODE,
        *,
        gpus: str | Sequence[Gpu] = "auto",
    ) -> None:
        """Say what to call, and how to bind before.

        Args:
            function: runs in a Ray worker that has GPUs.
            options: NumaOptions (ours or torch's), an affinity mode, or its value.
            gpus: all GPUs of the machine, as for `bind`.

        Raises:
            OptionError: the options make no sense.
        """
        super().__init__(function, bind, {"options": NumaOptions.of(options), "gpus": gpus})


def capture_all(folder: str | os.PathLike[str] | None = None, *, anonymous: bool = False) -> dict[str, Capture]:
    """Capture every machine of the Ray cluster, as ``hwnuma capture`` does on each.

    Ray has to be initialized, and hwnuma installed on all nodes. A machine with several Ray nodes is captured once.
    The visible devices that Ray tells its tasks are Ray's, and are not kept.

    Args:
        folder: where to save each as ``HOST.xml.gz``, for ``hwnuma fleet``; by default nowhere.
        anonymous: leave out what says whose machine it is.

    Returns:
        The captures by host. A machine that could not be captured is not among them, and a warning says why.

    Raises:
        HwnumaError: none could be captured, or a file cannot be written.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # only for this

    nodes = {node["NodeManagerHostname"]: node["NodeID"] for node in ray.nodes() if node["Alive"]}
    task = ray.remote(num_cpus=0)(capture_here)
    running = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(anonymous)
        for node in nodes.values()
    ]
    told: dict[str, object] = {}
    for host, answer in zip(nodes, running, strict=True):
        try:
            told[host] = ray.get(answer)
        except ray.exceptions.RayError as error:
            told[host] = error
    return gathered(told, folder)
