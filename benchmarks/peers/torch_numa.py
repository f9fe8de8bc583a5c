"""PyTorch's own planning, on a machine laid out as files: its torch.numa.binding, rank after rank.

Arguments: the folder that holds the machine's ``sys``, a folder to put over /sys, and the GPUs' PCI addresses. It runs
in a mount namespace of its own. How torch is given a machine is the differential tests' way.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.peers import serve
from benchmarks.timing import calls
from tests.differential import torch_numa, torch_process


def main() -> None:
    """Serve a work for each affinity mode: all ranks of the machine."""
    root, holder, *gpus = sys.argv[1:]
    import torch
    from torch.numa import binding

    logging.disable(logging.CRITICAL)
    torch_process.mount(Path(holder))
    torch_process.show(Path(holder), root)
    online = (Path(root) / "sys/devices/system/cpu/online").read_text(encoding="ascii")
    torch_process.supply(torch, gpus, binding._get_set_of_int_from_ranges_str(online))

    serve(torch.__version__, {mode.value: calls(_planner(binding, mode, len(gpus))) for mode in binding.AffinityMode})


def _planner(binding: Any, mode: Any, gpus: int) -> Callable[[], Callable[[], object]]:
    options = binding.NumaOptions(mode)

    def all_ranks() -> None:
        for gpu in range(gpus):
            torch_numa.call(binding._get_validated_logical_cpus_to_bind_to, gpu, options)

    return lambda: all_ranks


if __name__ == "__main__":
    main()
