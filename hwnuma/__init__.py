"""hwnuma: put every worker process on the CPUs (and memory) next to its GPU.

A worker calls `bind`. A launcher loads a `Topology`, takes its `machine()`, and calls `plan`. What cannot be done
raises a `HwnumaError`; `hwnuma.errors` lists them all.
"""

from typing import TYPE_CHECKING, Any

from hwnuma.devices.pci import TopologyGpus, gpus_at
from hwnuma.errors import (
    BindingError,
    ClosedTopologyError,
    GpuError,
    GpuNotFoundError,
    HwlocError,
    HwlocVersionError,
    HwnumaError,
    LocalRankError,
    NoAllowedCpusError,
    NotEnoughCoresError,
    NotThisSystemError,
    NvmlError,
    OptionError,
    PlanError,
    TopologyFileError,
    UnknownLocalityError,
)
from hwnuma.hwloc.topology import Topology
from hwnuma.launch.bind import bind, bind_process, bound
from hwnuma.launch.job import plan
from hwnuma.model.bitmap import CpuSet, NodeSet
from hwnuma.model.gpu import Gpu, GpuSource
from hwnuma.model.machine import Machine
from hwnuma.model.options import (
    AffinityMode,
    DivideAmong,
    MemoryPolicy,
    NoAllowedCpus,
    NumaOptions,
    RankOrder,
    UnknownLocality,
)
from hwnuma.model.plan import Binding, Plan

if TYPE_CHECKING:
    from hwnuma.processes.verification import Verification, verify

__all__ = [
    "AffinityMode",
    "Binding",
    "BindingError",
    "ClosedTopologyError",
    "CpuSet",
    "DivideAmong",
    "Gpu",
    "GpuError",
    "GpuNotFoundError",
    "GpuSource",
    "HwlocError",
    "HwlocVersionError",
    "HwnumaError",
    "LocalRankError",
    "Machine",
    "MemoryPolicy",
    "NoAllowedCpus",
    "NoAllowedCpusError",
    "NodeSet",
    "NotEnoughCoresError",
    "NotThisSystemError",
    "NumaOptions",
    "NvmlError",
    "OptionError",
    "Plan",
    "PlanError",
    "RankOrder",
    "Topology",
    "TopologyFileError",
    "TopologyGpus",
    "UnknownLocality",
    "UnknownLocalityError",
    "Verification",
    "bind",
    "bind_process",
    "bound",
    "gpus_at",
    "plan",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import what looks at running processes when it is first asked for: a worker that binds itself does without."""
    if name in ("Verification", "verify"):
        from hwnuma.processes import verification  # only now, see above

        return getattr(verification, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
