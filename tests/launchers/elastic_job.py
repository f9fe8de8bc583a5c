"""A program that starts workers through torch's Python API, in several ways, and prints what they told as JSON.

::

    python elastic_job.py

The environment has HWNUMA_GPUS=none and HWNUMA_MODE=exclusive; torch is imported once for all the ways.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.multiprocessing
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.numa.binding import AffinityMode, NumaOptions

from hwnuma.integrations.logs_specs import HwnumaLogsSpecs
from hwnuma.integrations.torch import Bound, bind_and_call

RANKS = 2
WORKER = Path(__file__).with_name("worker.py")


def allowed_cpus() -> str:
    """The line Cpus_allowed_list of this process, from the kernel."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("Cpus_allowed_list"))


def tell(word: str) -> dict[str, Any]:
    """What a worker returns to its launcher."""
    return {"word": word, "cpus": allowed_cpus(), "threads": torch.get_num_threads(), **_variables()}


def _variables() -> dict[str, Any]:
    return {"planned": os.environ.get("HWNUMA_CPUS"), "attempt": os.environ.get("TORCHELASTIC_RESTART_COUNT")}


def fail_first(word: str) -> dict[str, Any]:
    """Fail at the first attempt; tell at the second."""
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        sys.exit(4)
    return tell(word)


def tell_in_a_file(local_rank: int, folder: str) -> None:
    """What a worker of torch.multiprocessing.spawn does, which returns nothing."""
    (Path(folder) / str(local_rank)).write_text(json.dumps(tell("spawned")))


def launch(entrypoint: Any, start_method: str, *arguments: Any, **config: Any) -> dict[int, Any]:
    """Run two workers on this machine."""
    made = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=RANKS,
        run_id="test",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        start_method=start_method,
        monitor_interval=0.1,
        **{"max_restarts": 0, **config},
    )
    return dict(elastic_launch(made, entrypoint)(*arguments))


def spawned() -> list[Any]:
    """Run two workers of torch.multiprocessing.spawn, whose first argument is the local rank."""
    function = Bound(tell_in_a_file, "exclusive", rank_is_first_argument=True, ranks=RANKS, gpus="none")
    with TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(function, (folder,), nprocs=RANKS)
        return [json.loads((Path(folder) / str(rank)).read_text()) for rank in range(RANKS)]


def executed() -> list[Any]:
    """Run two workers that are commands, planned in the launcher by options of its own."""
    logs_specs = HwnumaLogsSpecs(options="exclusive")
    with TemporaryDirectory() as folder:
        command = ("exec", "--", sys.executable, str(WORKER), folder)
        launch("hwnuma", "spawn", *command, logs_specs=logs_specs)
        return [json.loads((Path(folder) / f"{rank}-0.json").read_text()) for rank in range(RANKS)]


def refused() -> list[str]:
    """Run two workers that cannot be placed: what torch says of each that it saw fail."""
    try:
        launch(Bound(tell, "exclusive", ranks=len(os.sched_getaffinity(0)) + 1, gpus="none"), "fork", "not called")
    except ChildFailedError as error:
        return [str(failure.message) for failure in error.failures.values()]
    return []


def main() -> None:
    """Launch in every way, and print what came back."""
    multiprocessing.set_forkserver_preload(["torch"])  # imported once there, and not in each worker
    options = NumaOptions(affinity_mode=AffinityMode.EXCLUSIVE)
    told = {
        "spawn": launch(Bound(tell, options, gpus="none"), "spawn", "a word"),
        "fork": launch(Bound(fail_first), "fork", "a word", max_restarts=1),
        "forkserver": launch(bind_and_call, "forkserver", tell, "a word", logs_specs=HwnumaLogsSpecs()),
        "torch.multiprocessing": dict(enumerate(spawned())),
        "command": dict(enumerate(executed())),
        "refused": refused(),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
