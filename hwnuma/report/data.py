"""A machine and its GPUs as plain values, by the contract that the JSON keeps (a plan's is `Plan.as_dict`). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hwnuma.model.facts import Facts
from hwnuma.model.gpu import Gpu
from hwnuma.model.machine import Machine
from hwnuma.model.plan import SCHEMA
from hwnuma.policy.locality import Locality


def machine_as_data(machine: Machine) -> dict[str, Any]:
    """The machine as plain values: what ``hwnuma show --format json`` prints, beside the GPUs."""
    return {
        "schema": SCHEMA,
        "topology": machine.source,
        "machine": str(machine.digest),
        "hwloc_version": machine.hwloc_version,
        "cpuset": str(machine.cpuset),
        "allowed_cpuset": str(machine.allowed_cpuset),
        "packages": [{"package": each.os_index, "cpuset": str(each.cpuset)} for each in machine.packages],
        "numa_nodes": [
            {
                "node": node.os_index,
                "cpuset": str(node.cpuset),
                "near_cpuset": str(node.near_cpuset),
                "memory": node.memory or None,
                "subtype": node.subtype,
            }
            for node in machine.numa_nodes
        ],
        "last_level_caches": [{"level": each.level, "cpuset": str(each.cpuset)} for each in machine.last_level_caches],
        "cores": [str(core.cpuset) for core in machine.cores],
    }


def facts_as_data(machine: Machine, facts: Facts) -> dict[str, Any]:
    """The facts of a capture with what its topology says of them: what ``hwnuma capture --facts`` prints."""
    return {
        "schema": SCHEMA,
        "topology": machine.source,
        "machine": str(machine.digest),
        "allowed_cpuset": str(machine.allowed_cpuset),
        "allowed_nodeset": str(machine.allowed_nodeset),
        **facts.as_dict(),
    }


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
