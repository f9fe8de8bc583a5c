"""Run by the packaging tests with an installed hwnuma: ``python -I smoke.py TOPOLOGY.xml HWLOC``.

It plans, pickles and binds, and fails unless the libhwloc that is loaded is the release that was asked for.
"""

import pickle
import platform
import re
import subprocess
import sys

import hwnuma
from hwnuma import errors

DGX_A100_EXCLUSIVE = [
    "48-55,176-183",
    "56-63,184-191",
    "16-23,144-151",
    "24-31,152-159",
    "112-119,240-247",
    "120-127,248-255",
    "80-87,208-215",
    "88-95,216-223",
]


def main(topology_file: str, wanted_hwloc: str) -> None:
    """Try everything that depends on the Python or the libhwloc that this runs on."""
    with hwnuma.Topology.from_synthetic("pu:1") as topology:  # the API version stands still in some releases
        release = re.findall(r'name="hwlocVersion" value="([^"]*)"', topology.export_xml())[0]
    if not f"{release}.".startswith(f"{wanted_hwloc}."):
        sys.exit(f"this leg wants hwloc {wanted_hwloc} and got {release}")

    with hwnuma.Topology.from_xml_file(topology_file) as topology:
        machine = topology.machine()
    assert pickle.loads(pickle.dumps(machine)) == machine
    plan = hwnuma.plan(machine, hwnuma.TopologyGpus(machine).gpus(), "exclusive")
    assert [str(binding.cpuset) for binding in plan] == DGX_A100_EXCLUSIVE, plan

    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.HwnumaError):
            error = kind(22, "cannot") if issubclass(kind, OSError) else kind("cannot")
            copy = pickle.loads(pickle.dumps(error))
            assert (type(copy), copy.args) == (kind, error.args), name

    command = ["exec", "--gpus", "none", "--ranks", "1", "--local-rank", "0", "--", "true"]
    subprocess.run([sys.executable, "-I", "-m", "hwnuma", *command], check=True)
    print(f"Python {platform.python_version()}, hwloc {release}, {hwnuma.__file__}")


main(*sys.argv[1:])
