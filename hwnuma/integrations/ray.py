"""Ray: bind an actor or a task to the CPUs near the GPUs that Ray has given it.

::

    @ray.remote(num_gpus=1)
    class Worker:
        def __init__(self):
            hwnuma.integrations.ray.bind("exclusive")   # first, before torch is imported

In Ray Train, `bind` is the first line of the training loop, or ``train_loop_per_worker=Bound(train_loop, "node")``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ParamSpec, TypeVar

import ray

from hwnuma.errors import GpuNotFoundError
from hwnuma.integrations.devices import bind_to_devices
from hwnuma.launch import bound
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
