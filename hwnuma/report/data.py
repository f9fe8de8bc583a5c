"""A list of GPUs as plain values, by the contract that the JSON keeps (a plan's is `Plan.as_dict`). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hwnuma.model.gpu import Gpu
from hwnuma.policy.locality import Locality


def gpus_as_data(gpus: Sequence[Gpu], localities: Sequence[Locality], visible: Sequence[Gpu]) -> list[dict[str, Any]]:
    """The GPUs with where each is, who says so, and which rank would drive it, as plain values."""
    order = {gpu.index: rank for rank, gpu in enumerate(visible)}
    return [
        {
            **gpu.as_dict(),
            "visible_as": order.get(gpu.index),
            "numa_node": locality.nodes[0].os_index if locality.nodes else None,
            "cpuset": str(locality.nodes[0].cpuset) if locality.nodes else None,
            "locality": locality.source or None,
            "driver_cpuset": None if gpu.cpu_affinity is None else str(gpu.cpu_affinity),
            "error": None if locality.error is None else str(locality.error),
        }
        for gpu, locality in zip(gpus, localities, strict=True)
    ]
