"""Measure copies as `hwnuma bench` does, on GPUs that are named, and print what came of it as JSON: for a child process.

python -m tests.fake_cuda.measure ADDRESS,… [cuda|hip] [PATIENCE] [BYTES]
"""

from __future__ import annotations

import json
import os
import sys

from hwnuma.hwloc.topology import Topology
from hwnuma.measure import gpu_copies
from hwnuma.model.gpu import FoundGpus, Gpu
from hwnuma.policy.locality import locate


def main(addresses: str, runtime: str = "cuda", patience: str = "60", most_bytes: str = "1048576") -> None:
    """Measure for the least time that there is."""
    gpu_copies._PATIENCE = float(patience)
    gpus = tuple(Gpu(index, address) for index, address in enumerate(addresses.split(",")))
    with Topology.from_this_system() as topology:
        machine, found = topology.machine(), FoundGpus(gpus, gpus, "nvml")
        measured, notes = gpu_copies.measure_copies(
            topology, machine, found, locate(machine, gpus), 0.0, int(most_bytes), runtime
        )
    gpus_told = [each.as_dict() for each in measured]
    told = {"gpus": gpus_told, "verdicts": gpu_copies.verdicts(measured), "notes": notes, "pid": os.getpid()}
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
