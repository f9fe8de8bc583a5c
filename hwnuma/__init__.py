"""hwnuma: put every worker process on the CPUs (and memory) next to its GPU.

A worker calls `bind`. A launcher loads a `Topology`, takes its `machine()`, and calls `plan`. What cannot be done
raises a `HwnumaError`; `hwnuma.errors` lists them all.
"""

from hwnuma.bitmap import CpuSet, NodeSet
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
from hwnuma.gpus import Gpu, GpuSource, TopologyGpus, gpus_at
from hwnuma.launch import bind, bind_process, bound, plan
from hwnuma.machine import Machine
from hwnuma.options import (
    AffinityMode,
    DivideAmong,
    MemoryPolicy,
    NoAllowedCpus,
    NumaOptions,
    RankOrder,
    UnknownLocality,
)
from hwnuma.placement import Binding, Plan
from hwnuma.topology import Topology
from hwnuma.verification import Verification, verify

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
