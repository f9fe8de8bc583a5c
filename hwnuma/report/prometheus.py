"""An audit of the GPUs' processes as metrics for Prometheus: text that node_exporter's textfile collector reads.

Pure. Names and units are by Prometheus' conventions (its documentation, "Metric and label naming"), and the format by
"Exposition formats". A process that is on several GPUs counts at each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from hwnuma.model.gpu import Gpu
from hwnuma.model.value import Value
from hwnuma.processes.verification import Defeater, GpuAudit, Verification


class _Metric(Value):
    """A metric of each GPU.

    Attributes:
        name: its name.
        about: what it tells.
        adds: how much a process on the GPU adds; one that could not be looked at is None.
    """

    name: str
    about: str
    adds: Callable[[Verification | None], int]


_METRICS = (
    _Metric("hwnuma_gpu_processes", "Processes on the GPU, as its driver shows them.", lambda _found: 1),
    _Metric(
        "hwnuma_gpu_processes_unverified",
        "Processes on the GPU that could not be looked at, such as another container's.",
        lambda found: int(found is None),
    ),
    _Metric(
        "hwnuma_gpu_processes_misplaced",
        "Processes on the GPU with something off: hwnuma verify --gpus says what.",
        lambda found: int(found is not None and not found.ok),
    ),
    _Metric(
        "hwnuma_threads",
        "Threads of the processes on the GPU.",
        lambda found: 0 if found is None else len(found.threads),
    ),
    _Metric(
        "hwnuma_threads_outside",
        "Threads of the processes on the GPU that may run on CPUs which are not near it.",
        lambda found: 0 if found is None else len(found.outside),
    ),
    _Metric(
        "hwnuma_memory_remote_bytes",
        "Private memory of the processes on the GPU that is not on its NUMA node.",
        lambda found: 0 if found is None else found.remote_bytes,
    ),
)

_DEFEATED = "hwnuma_gpu_processes_defeated"


def audits_as_prometheus(gpus: Sequence[Gpu], audits: Sequence[GpuAudit]) -> str:
    """Write the metrics of all GPUs: those without a process have zeros, so that every series is always there.

    Args:
        gpus: all of the machine.
        audits: of the processes on them, with what defeats them.
    """
    lines: list[str] = []
    for metric in _METRICS:
        lines += _head(metric.name, metric.about)
        for gpu in gpus:
            value = sum(metric.adds(audit.verification) for audit in audits if _is_on(audit, gpu))
            lines.append(f"{metric.name}{{{_labels(gpu)}}} {value}")
    lines += _head(_DEFEATED, "Processes on the GPU whose binding something defeats, by what.")
    for gpu in gpus:
        for name, count in _defeated(audits, gpu).items():
            lines.append(f'{_DEFEATED}{{{_labels(gpu)},defeater="{_escaped(name)}"}} {count}')
    return "\n".join([*lines, ""])


def _head(name: str, about: str) -> list[str]:
    return [f"# HELP {name} {about}", f"# TYPE {name} gauge"]


def _is_on(audit: GpuAudit, gpu: Gpu) -> bool:
    return any(each.index == gpu.index for each in audit.gpus)


def _defeated(audits: Iterable[GpuAudit], gpu: Gpu) -> dict[str, int]:
    """How many processes on a GPU each thing defeats."""
    counts: dict[str, int] = {}
    for audit in audits:
        for each in _counted(audit) if _is_on(audit, gpu) else ():
            counts[each.name] = counts.get(each.name, 0) + 1
    return dict(sorted(counts.items()))


def _counted(audit: GpuAudit) -> Iterable[Defeater]:
    found = () if audit.verification is None else audit.verification.defeaters
    return [each for each in found if each.weight != "information"]


def _labels(gpu: Gpu) -> str:
    labels = {"gpu": str(gpu.index), "uuid": gpu.uuid or "", "pci_address": gpu.pci_address or ""}
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
