"""Whether a rank was given CPUs that are near another's GPU, and none near its own: ranks and GPUs in different orders.

Launchers deal out sockets in turn where ranks 0 and 1 go to sockets 0 and 1 (Slurm by default, Open MPI); most machines
number GPUs socket by socket.
"""

from __future__ import annotations

from hwnuma.model.bitmap import NodeSet
from hwnuma.model.options import UnknownLocality
from hwnuma.model.value import Value
from hwnuma.policy.locality import locate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hwnuma.model.bitmap import CpuSet
    from hwnuma.model.gpu import Gpu
    from hwnuma.model.machine import Machine


class OtherPlace(Value):
    """Where a rank was put that is near other GPUs than its own.

    Attributes:
        own: the nodes of its GPUs.
        given: the nodes of the CPUs that it was given.
        others: the GPUs that are there.
    """

    own: NodeSet
    given: NodeSet
    others: tuple[Gpu, ...]


def near_another(
    machine: Machine,
    own: Sequence[Gpu],
    gpus: Sequence[Gpu],
    given: CpuSet,
    *,
    nccl_nodes: Mapping[str, int] | None = None,
    unknown: UnknownLocality = UnknownLocality.ERROR,
) -> OtherPlace | None:
    """Say where a rank is that was given CPUs of none of its GPUs' nodes, but of nodes with other GPUs.

    Args:
        machine: where the GPUs are.
        own: the GPUs that the rank drives.
        gpus: all that are known, these among them.
        given: the CPUs that the rank was given.
        nccl_nodes: as `hwnuma.policy.locality.locate` takes them.
        unknown: likewise.

    Returns:
        None where it has a CPU on a node of one of its GPUs, where no other GPU is near its CPUs, and where it is not
        known on which node one of its own is.
    """
    places = dict(zip(gpus, locate(machine, gpus, nccl_nodes=nccl_nodes, unknown=unknown), strict=True))
    home = [node for gpu in own for node in places[gpu].nodes]
    if len(home) < len(own) or any(not node.cpuset.isdisjoint(given) for node in home):
        return None
    there = {node.os_index for node in machine.nodes_of(given)}
    others = tuple(gpu for gpu, place in places.items() if any(node.os_index in there for node in place.nodes))
    return OtherPlace(NodeSet(node.os_index for node in home), NodeSet(there), others) if others and own else None
