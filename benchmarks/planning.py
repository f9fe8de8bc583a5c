"""What it costs to plan eight ranks: hwnuma, side by side with torch's own functions on the same machine.

Usage: python benchmarks/planning.py [--repeat N]

Both answer for this machine's first node; torch reads sysfs for every rank anew, and hwnuma loads the topology
once and plans all ranks. Without torch, hwnuma's figures stand alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import hwnuma
from hwnuma import AffinityMode, Gpu, NumaOptions, Topology

RANKS = 8
DGX = Path(__file__).resolve().parent.parent / "fixtures" / "topologies" / "dgx_a100_nps4.xml"


def hwnuma_here() -> None:
    """Load this system's topology, and plan eight ranks on its first node."""
    with Topology.from_this_system() as topology:
        machine = topology.machine()
    node = machine.cpu_nodes[0].os_index
    hwnuma.plan(machine, [Gpu(index, numa_node=node) for index in range(RANKS)], "node")


def hwnuma_on_a_dgx() -> None:
    """Load a saved DGX A100 and plan its eight ranks in all four modes."""
    with Topology.from_xml_file(DGX) as topology:
        machine = topology.machine()
    gpus = hwnuma.TopologyGpus(machine)
    for mode in AffinityMode:
        hwnuma.plan(machine, gpus, NumaOptions(mode))


def torch_here() -> None:
    """Read what torch reads of sysfs for eight ranks on this system's first node, by torch's own functions."""
    from torch.numa import binding

    for _ in range(RANKS):
        binding._get_allowed_logical_cpu_indices_for_numa_node(numa_node_index=0)  # torch has no public one


def milliseconds(work: Callable[[], None], repeat: int) -> float:
    """The median time of a piece of work."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def main() -> None:
    """Measure, and print a line a candidate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=20, help="how often (default: 20)")
    repeat = parser.parse_args().repeat
    for work in (hwnuma_here, torch_here, hwnuma_on_a_dgx):
        try:
            work()
        except ImportError as error:
            print(f"{work.__name__}: left out, {error}")
            continue
        print(f"{milliseconds(work, repeat):8.2f} ms  {work.__name__}")


if __name__ == "__main__":
    main()
