"""Tell libraries which NICs a rank sends through, in their own environment variables. Pure.

What the user has set stays. Where each variable is from:

- UCX_NET_DEVICES: openucx/ucx docs/source/faq.md ("mlx5_0:1,eth0"): device and port, or an interface for TCP.
- NVSHMEM_HCA_LIST, NVSHMEM_ENABLE_NIC_PE_MAPPING: NVIDIA/nvshmem src/include/env_defs_internal.h: "hca_name:port", and
  that the second must be 1 for the first to be effective.
- MPICH_OFI_NIC_POLICY, MPICH_OFI_NIC_MAPPING: intro_mpi(3) of HPE Cray MPICH: "USER", and "0:0,1;1:2,3" for NICs by
  number with their local ranks.
- NCCL_IB_HCA: NCCL User Guide, "Environment Variables": "=mlx5_0" names exactly that one.
- VLLM_GPU_NIC_PCIE_MAPPING, VLLM_NIC_SELECTION_VARS: vllm-project/vllm vllm/v1/executor/vllm_net_devices.py: pairs of
  PCI addresses, and the variables that a worker is to set from its own; both or neither.
"""

from __future__ import annotations

from hwnuma.model.nic import OPENFABRICS_KIND, NicMap, Rail
from hwnuma.model.options import NicLibrary
from hwnuma.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hwnuma.model.plan import Binding

Variables = dict[str, str]


class NicVariables(Value):
    """What to add to a rank's environment, and what somebody should know of it.

    Attributes:
        added: variables that were not set.
        notes: a sentence each.
    """

    added: Mapping[str, str]
    notes: tuple[str, ...] = ()


def nic_environment(
    libraries: tuple[NicLibrary, ...], binding: Binding, environment: Mapping[str, str]
) -> NicVariables:
    """Work out the variables to add to a rank's environment.

    Args:
        libraries: who is to be told.
        binding: the rank's, with its NICs.
        environment: what it has already.
    """
    added: Variables = {}
    notes: list[str] = []
    if not binding.nics or binding.nic_map is None:
        return NicVariables({})
    for library in libraries:
        variables = _WORDS[library](binding.nics, binding.nic_map)
        if not variables:
            notes.append(f"rank {binding.local_rank}: {_WHY_NOT[library]}: {library} is told nothing")
        kept = {name: environment[name] for name in variables if environment.get(name, "") != ""}
        # Half of what belongs together would say something else than either.
        added |= {} if kept else variables
        notes += [
            f"{name}={value} is set already and stays: rank {binding.local_rank} would be told {variables[name]}"
            for name, value in kept.items()
            if value != variables[name]
        ]
    return NicVariables(added, tuple(notes))


def _fabric_ports(rails: tuple[Rail, ...]) -> str:
    return ",".join(f"{rail.nic.name}:{rail.port}" for rail in rails if rail.nic.kind == OPENFABRICS_KIND)


def _ucx(rails: tuple[Rail, ...], _everybody: NicMap) -> Variables:
    """OpenFabrics devices by port; of other cards UCX knows the interface."""
    return {
        "UCX_NET_DEVICES": ",".join(
            f"{rail.nic.name}:{rail.port}" if rail.nic.kind == OPENFABRICS_KIND else rail.nic.interfaces[0]
            for rail in rails
        )
    }


def _nvshmem(rails: tuple[Rail, ...], _everybody: NicMap) -> Variables:
    ports = _fabric_ports(rails)
    return {"NVSHMEM_ENABLE_NIC_PE_MAPPING": "1", "NVSHMEM_HCA_LIST": ports} if ports else {}


def _mpich(_rails: tuple[Rail, ...], everybody: NicMap) -> Variables:
    """All ranks are told the same: each finds itself in the list."""
    ranks: dict[int, list[str]] = {}
    for rank, number in enumerate(everybody.by_rank):
        ranks.setdefault(number, []).append(str(rank))
    if not ranks or -1 in ranks:
        return {}
    mapping = ";".join(f"{number}:{','.join(those)}" for number, those in sorted(ranks.items()))
    return {"MPICH_OFI_NIC_POLICY": "USER", "MPICH_OFI_NIC_MAPPING": mapping}


def _nccl(rails: tuple[Rail, ...], _everybody: NicMap) -> Variables:
    """With the port only where there are several: NCCL takes all of them else."""
    names = [
        f"{rail.nic.name}:{rail.port}" if len(rail.nic.ports) > 1 else rail.nic.name
        for rail in rails
        if rail.nic.kind == OPENFABRICS_KIND
    ]
    return {"NCCL_IB_HCA": f"={','.join(names)}"} if names else {}


def _vllm(rails: tuple[Rail, ...], everybody: NicMap) -> Variables:
    """The NICs of all GPUs, since one engine starts workers on several."""
    if rails[0].nic.kind != OPENFABRICS_KIND:
        return {}
    return {
        "VLLM_GPU_NIC_PCIE_MAPPING": ",".join(f"{gpu}={nic}" for gpu, nic in everybody.by_gpu),
        "VLLM_NIC_SELECTION_VARS": f"UCX_NET_DEVICES:{rails[0].port},NVSHMEM_HCA_LIST:{rails[0].port}",
    }


_WORDS: dict[NicLibrary, Callable[[tuple[Rail, ...], NicMap], Variables]] = {
    NicLibrary.UCX: _ucx,
    NicLibrary.NVSHMEM: _nvshmem,
    NicLibrary.MPICH: _mpich,
    NicLibrary.NCCL: _nccl,
    NicLibrary.VLLM: _vllm,
}

_NO_FABRIC = "its NICs are no OpenFabrics devices"
_WHY_NOT = {
    NicLibrary.UCX: "it has no NIC",
    NicLibrary.NVSHMEM: _NO_FABRIC,
    NicLibrary.MPICH: "MPICH is told of all ranks at once, and the NICs of the others are not known here",
    NicLibrary.NCCL: _NO_FABRIC,
    NicLibrary.VLLM: _NO_FABRIC,
}
