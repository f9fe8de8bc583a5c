"""A plan or a list of GPUs as plain values, by the contracts that the JSON keeps. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hwnuma.model.gpu import Gpu
from hwnuma.model.plan import Binding, Plan
from hwnuma.policy.locality import Locality

SCHEMA = 1


def plan_as_data(plan: Plan) -> dict[str, Any]:
    """The plan as plain values, by the contract that ``hwnuma plan --format json`` keeps."""
    return {
        "schema": SCHEMA,
        "mode": str(plan.mode),
        "topology": plan.source,
        "allowed_cpuset": str(plan.allowed_cpuset),
        "bindings": [binding_as_data(binding) for binding in plan.bindings],
        "unused_cpuset": str(plan.unused_cpuset),
        "overlaps": [{"ranks": [one, other], "cpuset": str(cpus)} for one, other, cpus in plan.overlaps()],
        "warnings": list(plan.warnings),
    }


def binding_as_data(binding: Binding) -> dict[str, Any]:
    """One rank of a plan as plain values: with ``cpuset``, or with ``error``."""
    row: dict[str, Any] = {"local_rank": binding.local_rank, "gpus": [_gpu_as_data(gpu) for gpu in binding.gpus]}
    if binding.error is not None:
        row["error"] = {"type": type(binding.error).__name__, "message": str(binding.error)}
        return row
    return {
        **row,
        "cpuset": str(binding.cpuset),
        "nodeset": str(binding.nodeset),
        "cores": binding.cores,
        "locality": binding.locality,
        "memory": str(binding.memory),
        "near_memory_nodes": str(binding.near_memory_nodes),
    }


def _gpu_as_data(gpu: Gpu) -> dict[str, Any]:
    return {"index": gpu.index, "pci_address": gpu.pci_address, "uuid": gpu.uuid, "name": gpu.name}


def gpus_as_data(gpus: Sequence[Gpu], localities: Sequence[Locality], visible: Sequence[Gpu]) -> list[dict[str, Any]]:
    """The GPUs with where each is, who says so, and which rank would drive it, as plain values."""
    order = {gpu.index: rank for rank, gpu in enumerate(visible)}
    return [
        {
            **_gpu_as_data(gpu),
            "visible_as": order.get(gpu.index),
            "numa_node": locality.nodes[0].os_index if locality.nodes else None,
            "cpuset": str(locality.nodes[0].cpuset) if locality.nodes else None,
            "locality": locality.source or None,
            "driver_cpuset": None if gpu.cpu_affinity is None else str(gpu.cpu_affinity),
            "error": None if locality.error is None else str(locality.error),
        }
        for gpu, locality in zip(gpus, localities, strict=True)
    ]
