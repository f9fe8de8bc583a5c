"""pyhwloc: load a topology, PCI devices included, and walk it, each object's CPUs as text.

Argument: the XML file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.peers import serve
from benchmarks.timing import calls


def main() -> None:
    """Serve the one work."""
    import pyhwloc
    from pyhwloc.topology import TypeFilter

    document = Path(sys.argv[1]).read_text(encoding="utf-8")

    def load_and_walk() -> None:
        with pyhwloc.from_xml_buffer(document).set_io_types_filter(TypeFilter.KEEP_ALL) as topology:
            found = [str(each.cpuset) for each in topology.iter_all_breadth_first()]
            found += [str(node.cpuset) for node in topology.iter_numa_nodes()]
            found += [str(device.pci_id) for device in topology.iter_pci_devices()]

    def prepare() -> Callable[[], object]:
        return load_and_walk

    serve(pyhwloc.__version__, {"load": calls(prepare)})


if __name__ == "__main__":
    main()
