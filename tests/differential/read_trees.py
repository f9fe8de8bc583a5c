"""Read sysfs trees with libhwloc, as hwnuma does on a running system, and write the machines to standard output.

A program of its own, since libhwloc takes its environment for the whole process. Standard input: the folders as JSON.
"""

from __future__ import annotations

import json
import os
import pickle
import sys

# Without "stop", libhwloc's x86 backend fills gaps with the caches of this machine.
os.environ.update({"HWLOC_COMPONENTS": "linux,stop", "HWLOC_THISSYSTEM": "0"})

from hwnuma.hwloc.topology import Topology


def main() -> None:
    """Read every tree."""
    machines = []
    for root in json.load(sys.stdin):
        os.environ["HWLOC_FSROOT"] = root
        with Topology.from_this_system() as topology:
            machines.append(topology.machine())
    sys.stdout.buffer.write(pickle.dumps(machines))


if __name__ == "__main__":
    main()
