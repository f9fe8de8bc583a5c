"""Copies to and from the GPUs of this machine, measured for `hwnuma bench`, or why not."""

from __future__ import annotations

from hwnuma.errors import GpuError, GpuNotFoundError
from hwnuma.launch.system import load_this_system
from hwnuma.measure.gpu_copies import GpuCopies, measure_copies, verdicts
from hwnuma.model.gpu import FoundGpus
from hwnuma.policy.locality import locate
from hwnuma.processes.binding import current_affinity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hwnuma.launch.job import Job

_NOT_MEASURED = "no copies to GPUs were measured"


class GpusToMeasure:
    """This machine's GPUs, looked for ahead of measuring.

    Args:
        job: which GPUs, and what is stated of their places.

    Attributes:
        found: the GPUs.
        why_not: why there is nothing to measure, a sentence; "" if there is.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self.found: FoundGpus = FoundGpus((), (), "none")
        self.why_not: str = ""
        with load_this_system() as topology:
            machine = topology.machine()
            try:
                self.found = job.find_gpus(machine)
            except GpuNotFoundError:
                self.why_not = f"no GPUs are found here (see hwnuma gpus): {_NOT_MEASURED}"
            except GpuError as error:
                self.why_not = f"{_NOT_MEASURED}: {error}"
        if not self.found.all and not self.why_not:
            self.why_not = f"no GPUs are asked for: {_NOT_MEASURED}"

    def measure(self, seconds: float, memory: int | None = None) -> tuple[tuple[GpuCopies, ...], tuple[str, ...]]:
        """Measure the copies of each GPU. It makes a context on each, in a process of its own that ends afterwards.

        Args:
            seconds: how long it may take, but for the driver's start and three rounds.
            memory: the most bytes of the host's memory to take at once, for each GPU.

        Returns:
            What was measured, and sentences for the verdict: what binding gives, or why nothing was measured.
        """
        if self.why_not:
            return (), (self.why_not,)
        job, found = self._job, self.found
        with load_this_system() as topology:
            machine = topology.machine().narrowed(current_affinity(topology))
            unknown, nccl_nodes = job.options.unknown_locality, job.nccl_nodes()
            localities = locate(machine, found.all, nccl_nodes=nccl_nodes, unknown=unknown)
            measured, notes = measure_copies(topology, machine, found, localities, seconds, memory)
        return measured, (*verdicts(measured), *notes)
