"""Dask: a plug-in that binds each worker process, and a preload module of the same effect.

::

    client.register_plugin(HwnumaPlugin("node"))                            # under dask-cuda: after its own
    dask worker SCHEDULER --preload hwnuma.integrations.dask                # options: HWNUMA_MODE and the others
    LocalCluster(n_workers=4, plugins={HwnumaPlugin("exclusive", ranks=4, gpus="none")})
    captures = hwnuma.integrations.dask.capture_all(client, "DIR")          # every machine, for hwnuma fleet DIR

A worker of dask-cuda drives the first GPU of its own ``CUDA_VISIBLE_DEVICES``; another one has a rank if its name is a
number or ends in one (``LocalCluster``, and ``dask worker --name NAME --nworkers N``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from distributed import Client, Worker, WorkerPlugin

from hwnuma.environment.local_rank import local_world_size
from hwnuma.errors import LocalRankError
from hwnuma.integrations.captures import capture_here, gathered
from hwnuma.integrations.devices import bind_to_devices
from hwnuma.launch.bind import bind_job
from hwnuma.launch.capture import Capture
from hwnuma.launch.job import Job
from hwnuma.launch.told import Told
from hwnuma.model.gpu import Gpu
from hwnuma.model.options import AffinityMode, NumaOptions
from hwnuma.model.plan import Binding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hwnuma.model.forms import NumaOptionsLike


class HwnumaPlugin(WorkerPlugin):
    """Bind a worker's process when the plug-in is registered or the worker starts. Picklable.

    After set-up, `binding` is what the worker is bound to.
    """

    name = "hwnuma"

    def __init__(
        self,
        options: NumaOptionsLike = AffinityMode.NODE,
        *,
        ranks: int | None = None,
        gpus: str | Sequence[Gpu] = "auto",
        gpu_nodes: Mapping[str, int] | None = None,
    ) -> None:
        """Say how to bind.

        Args:
            options: NumaOptions (ours or torch's), an affinity mode, or its value.
            ranks: how many workers run on each machine. By default a worker is known by its GPU instead.
            gpus: all GPUs of a machine: a specification (see `hwnuma.devices.discovery.find_gpus`), or the GPUs.
            gpu_nodes: NUMA nodes that you state, by PCI address or GPU index.
        """
        self.options: NumaOptions = NumaOptions.of(options)
        self.ranks = ranks
        self.gpus = gpus
        self.gpu_nodes: dict[str, int] = dict(gpu_nodes or {})
        self.binding: Binding | None = None

    def setup(self, worker: Worker) -> None:
        """Bind the process of a worker.

        Raises:
            HwnumaError: it cannot be placed or bound; the process is as it was.
        """
        job = Job.here(self.options, gpus=self.gpus, ranks=self.ranks, gpu_nodes=self.gpu_nodes)
        self.binding = bind_worker(job, worker.name)


def dask_setup(worker: Worker) -> None:
    """Bind a worker that was started with ``--preload hwnuma.integrations.dask``, as the environment says.

    Every option of ``hwnuma exec`` counts as its variable: ``HWNUMA_MODE``, ``HWNUMA_RANKS``, ``HWNUMA_GPUS``, …

    Raises:
        HwnumaError: an option makes no sense, or the worker cannot be placed or bound.
    """
    environment = dict(os.environ)
    job = Job.asked({}, environment)
    place = Told.asked({}, environment).place(job.options.memory)
    if place is not None:
        bind_job(job, given=place)
        return
    bind_worker(job, worker.name)


def bind_worker(job: Job, name: object) -> Binding:
    """Bind this process, a Dask worker: by its GPU, or by the rank that its name tells where ranks are counted.

    Args:
        job: how to bind; its environment is the worker's.
        name: the worker's.

    Raises:
        HwnumaError: who this worker is cannot be told, or it cannot be placed or bound.
    """
    ranks = job.ranks if job.ranks is not None else local_world_size(job.environment)
    visible = [device for device in job.environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if device.strip()]
    if ranks is None and visible and job.gpus != "none":
        # dask-cuda rotates the list: each worker's own GPU is its first (dask_cuda.utils, cuda_visible_devices).
        return bind_to_devices(visible[:1], job.options, gpus=job.gpus, gpu_nodes=job.gpu_nodes)
    if ranks is None:
        raise LocalRankError(
            f"which place is the Dask worker {name}'s is not known: start it with dask-cuda, which gives it a GPU, or "
            "say how many workers a machine has (ranks=N, HWNUMA_RANKS=N) and give them names that end in a number"
        )
    return bind_job(job, rank_of(name, ranks))


def rank_of(name: object, ranks: int) -> int:
    """The local rank that a worker's name tells: 3, or the 3 in ``node7-3``.

    Raises:
        LocalRankError: it tells none, or one that this machine does not have.
    """
    match = re.search(r"(?:^|\D)(\d{1,9})$", str(name), re.ASCII)
    if match is None or int(match[1]) >= ranks:
        raise LocalRankError(
            f"the Dask worker {name}'s name ends in no number from 0 to {ranks - 1}: start it with --name NAME "
            "--nworkers N, or in a LocalCluster"
        )
    return int(match[1])


def capture_all(
    client: Client, folder: str | os.PathLike[str] | None = None, *, anonymous: bool = False
) -> dict[str, Capture]:
    """Capture every machine of a Dask cluster, as ``hwnuma capture`` does on each: in one worker of it.

    hwnuma has to be installed where the workers run. The visible devices that dask-cuda tells its workers are a
    worker's, and are not kept; the affinity is the worker's, so capture before anything binds the workers.

    Args:
        client: of the cluster.
        folder: where to save each as ``HOST.xml.gz``, for ``hwnuma fleet``; by default nowhere.
        anonymous: leave out what says whose machine it is.

    Returns:
        The captures by host. A machine that could not be captured is not among them, and a warning says why.

    Raises:
        HwnumaError: none could be captured, or a file cannot be written.
    """
    workers = client.scheduler_info(n_workers=-1)["workers"]
    one_of_each = {facts["host"]: address for address, facts in workers.items()}
    told = client.run(capture_here, anonymous, workers=list(one_of_each.values()), on_error="return")
    return gathered({host: told.get(address) for host, address in one_of_each.items()}, folder)
