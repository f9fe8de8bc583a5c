"""Ray: bind an actor or a task to the CPUs near the GPUs that Ray has given it.

::

    @ray.remote(num_gpus=1)
    class Worker:
        def __init__(self):
            hwnuma.integrations.ray.bind("exclusive")   # first, before torch is imported

In Ray Train, `bind` is the first line of the training loop, or ``train_loop_per_worker=bound(train_loop, "node")``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any, Generic, TypeVar

import ray

from hwnuma.errors import GpuNotFoundError
from hwnuma.gpus import Gpu
from hwnuma.integrations.devices import bind_to_devices
from hwnuma.options import AffinityMode, NumaOptions
from hwnuma.placement import Binding

_Result = TypeVar("_Result")


def bind(
    options: NumaOptions | AffinityMode | str | Any = AffinityMode.NODE,
    *,
    gpus: str | Sequence[Gpu] = "auto",
    gpu_nodes: Mapping[str, int] | None = None,
) -> Binding:
    """Bind this actor's or task's process to the CPUs near its GPUs (``ray.get_gpu_ids()``).

    Ray reuses a process for later tasks, and this binds it anew to what the next task has. Two actors that share a
    GPU (``num_gpus=0.5``) share its CPUs too.

    Args:
        options: NumaOptions (ours or torch's), an affinity mode, or its value.
        gpus: all GPUs of the machine: a specification (see `hwnuma.discovery.find_gpus`), or the GPUs.
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


@dataclass(eq=False)
class Bound(Generic[_Result]):
    """A function that binds its Ray process before it begins; picklable if the function is."""

    function: Callable[..., _Result]
    options: NumaOptions
    gpus: str | Sequence[Gpu] = "auto"

    def __post_init__(self) -> None:
        """Carry the function's name and signature: Ray Train asks whether a training loop takes a configuration."""
        update_wrapper(self, self.function, updated=())

    def __call__(self, *arguments: Any, **options: Any) -> _Result:
        """Bind this process, then call the function."""
        bind(self.options, gpus=self.gpus)
        return self.function(*arguments, **options)


def bound(
    function: Callable[..., _Result],
    options: NumaOptions | AffinityMode | str | Any = AffinityMode.NODE,
    *,
    gpus: str | Sequence[Gpu] = "auto",
) -> Bound[_Result]:
    """Make a function, such as Ray Train's ``train_loop_per_worker``, bind its process first.

    Args:
        function: runs in a Ray worker that has GPUs.
        options: NumaOptions (ours or torch's), an affinity mode, or its value.
        gpus: all GPUs of the machine.
    """
    return Bound(function, NumaOptions.of(options), gpus)
