"""hwnuma: put every worker process on the CPUs (and memory) next to its GPU.

A worker calls `bind`. A launcher loads a `Topology`, takes its `machine()`, and calls `plan`. What cannot be done
raises a `HwnumaError`; `hwnuma.errors` lists them all.

Each name is imported when it is first asked for (PEP 562), so ``import hwnuma`` costs next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hwnuma.devices.pci import TopologyGpus, gpus_at
    from hwnuma.devices.source import GpuSource
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
    from hwnuma.launch.bind import bind, bind_process
    from hwnuma.launch.bound import bound
    from hwnuma.launch.capture import Capture, capture
    from hwnuma.launch.job import plan
    from hwnuma.launch.place import plan_here
    from hwnuma.model.bitmap import CpuSet, NodeSet
    from hwnuma.model.gpu import Gpu
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
    from hwnuma.processes.verification import Verification, verify
    from hwnuma.report.json_schema import json_schema

__all__ = [
    "AffinityMode",
    "Binding",
    "BindingError",
    "Capture",
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
    "capture",
    "gpus_at",
    "json_schema",
    "plan",
    "plan_here",
    "verify",
]

# Where the names live that are no errors; a test holds this against the imports above.
_ROOMS = {
    "devices.pci": ("TopologyGpus", "gpus_at"),
    "devices.source": ("GpuSource",),
    "hwloc.topology": ("Topology",),
    "launch.bind": ("bind", "bind_process"),
    "launch.bound": ("bound",),
    "launch.capture": ("Capture", "capture"),
    "launch.job": ("plan",),
    "launch.place": ("plan_here",),
    "model.bitmap": ("CpuSet", "NodeSet"),
    "model.gpu": ("Gpu",),
    "model.machine": ("Machine",),
    "model.options": (
        "AffinityMode", "DivideAmong", "MemoryPolicy", "NoAllowedCpus", "NumaOptions", "RankOrder", "UnknownLocality",
    ),
    "model.plan": ("Binding", "Plan"),
    "processes.verification": ("Verification", "verify"),
    "report.json_schema": ("json_schema",),
}  # fmt: skip


def _find(name: str) -> object:
    """Import a public name from the room that it lives in; `__version__` is that of the installed package."""
    if name == "__version__":
        import importlib.metadata  # only now: it is asked for now and then

        return importlib.metadata.version(__name__)
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # only now: `import hwnuma` alone needs nothing

    room = next((room for room, names in _ROOMS.items() if name in names), "errors")
    globals()[name] = found = getattr(import_module(f"{__name__}.{room}"), name)
    return found


if TYPE_CHECKING:
    __version__: str
else:
    __getattr__ = _find  # unseen by type checkers, which would believe then that every name is there


def __dir__() -> list[str]:
    return [*globals(), *__all__, "__version__"]
