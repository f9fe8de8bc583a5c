"""What the firmware says of memory, beside what was measured: hwloc's memory attributes, and the distances (SLIT)."""

from __future__ import annotations

from hwnuma.model.measured import Firmware

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from hwnuma.hwloc.topology import Topology
    from hwnuma.model.machine import Machine


def firmware_of(topology: Topology, machine: Machine, pairs: Iterable[tuple[int, int]]) -> tuple[Firmware, ...]:
    """Ask what is said of some CPU and memory nodes, by their OS indexes.

    Args:
        topology: this system's.
        machine: what was copied out of it.
        pairs: CPU node and memory node.
    """
    rows = []
    for cpu_node, memory_node in pairs:
        node = machine.numa_node(cpu_node)
        bandwidth, latency = (None, None) if node is None else topology.memory_attributes(node.cpuset, memory_node)
        rows.append(
            Firmware(
                cpu_node,
                memory_node,
                None if bandwidth is None else bandwidth * 2.0**20,  # hwloc's unit is MiB/s
                None if latency is None else latency * 1e-9,  # and ns
                machine.distances.between(cpu_node, memory_node),
            )
        )
    return tuple(rows)
