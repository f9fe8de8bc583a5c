"""Ask PyTorch's own torch.numa.binding what it would bind to, on machines laid out as sysfs trees.

Runs as a program of its own, in a mount namespace in which ``/sys`` is a folder whose links point at one tree after
another, so torch's own ``open("/sys/…")`` sees that machine. From outside come only what it would ask CUDA and the
kernel for: the number of GPUs, their PCI addresses, and the affinity of the calling thread; and a ``numactl`` in
PATH, which torch wants to be there and does not run here.

Standard input: ``[{"name", "root", "gpus": [address, …], "cuts": [CPU list, …]}, …]``. Standard output: for each
machine, each cut, each mode, each GPU: ``{"cpus": list}`` or ``{"error": type, "message": text}``.
"""

from __future__ import annotations

import builtins
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.differential.torch_numa import answer_for_devices, call

Answer = dict[str, str]


def ask(binding: Any, options: Any, gpu: int) -> Answer:
    """Ask for one GPU."""
    try:
        cpus = call(binding._get_validated_logical_cpus_to_bind_to, gpu, options)
    except AssertionError:
        raise  # a mistake of ours
    except Exception as error:  # noqa: BLE001 -- whatever torch raises is its answer
        return {"error": type(error).__name__, "message": str(error).replace("\n", " ")}
    return {"cpus": binding._get_ranges_str_from_ints(cpus)}


def supply(torch: Any, gpus: list[str], allowed: set[int]) -> None:
    """Answer what torch asks CUDA and the kernel for."""
    answer_for_devices(torch, gpus)
    os.sched_getaffinity = lambda _pid: set(allowed)


def mount(holder: Path) -> None:
    """Put a folder over /sys; only this process's mount namespace sees it."""
    subprocess.run(["mount", "--bind", str(holder), "/sys"], check=True)


def _intercept() -> None:
    """Where no mount namespace can be had: send the interpreter's own file access below /sys to the folder."""
    holder = sys.argv[2]
    opened, listed = builtins.open, os.listdir

    def path_of(path: Any) -> Any:
        return holder + path[4:] if isinstance(path, str) and path.startswith("/sys/") else path

    builtins.open = lambda path, *rest, **named: opened(path_of(path), *rest, **named)  # type: ignore[assignment]
    os.listdir = lambda path=".": listed(path_of(path))  # type: ignore[assignment]


def show(holder: Path, root: str) -> None:
    for name in ("devices", "bus"):
        link = holder / name
        link.unlink(missing_ok=True)
        link.symlink_to(f"{root}/sys/{name}")


def main() -> None:
    """Answer for every machine of standard input."""
    way, holder = sys.argv[1], Path(sys.argv[2])
    request = json.load(sys.stdin)
    import torch
    import torch.cuda
    from torch.numa import binding
    from torch.numa.binding import AffinityMode, NumaOptions

    logging.disable(logging.CRITICAL)
    if way == "mount":
        mount(holder)
    else:
        _intercept()
    answers = {}
    for machine in request:
        show(holder, machine["root"])
        answers[machine["name"]] = of_machine = {}
        for cut in machine["cuts"]:
            supply(torch, machine["gpus"], binding._get_set_of_int_from_ranges_str(cut))
            of_machine[cut] = {
                mode.value: [ask(binding, NumaOptions(mode), gpu) for gpu in range(len(machine["gpus"]))]
                for mode in AffinityMode
            }
    json.dump({"torch": torch.__version__, "answers": answers}, sys.stdout)


if __name__ == "__main__":
    main()
