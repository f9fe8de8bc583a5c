"""UCX itself reads what `hwnuma exec --export-nics ucx` sets."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from hwnuma import Topology
from hwnuma.launch.system import load_this_system
from hwnuma.model.nic import Nic
from tests.conftest import TOPOLOGIES
from tests.launchers.jobs import LIMIT, environment
from tests.require import require

pytestmark = pytest.mark.launchers


def _context(*command: str, **variables: str) -> str:
    """What UCX says while it makes a context with an endpoint to itself; nothing if it has nothing to remark."""
    require(shutil.which("ucx_info"), "there is no ucx_info (Debian: ucx-utils)")
    done = subprocess.run(
        [*command, "ucx_info", "-e", "-u", "t"],
        env=environment(**variables), capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert "UCP endpoint" in said
    return "\n".join(line for line in said.splitlines() if " UCX " in line)


def _interface_here() -> Nic:
    with load_this_system(network=True) as topology:
        nics = [nic for nic in topology.machine().nics if not nic.port.is_down]
    require(nics, "this machine has no network card on its PCI buses")
    return nics[0]


def test_ucx_takes_the_device_that_it_is_told() -> None:
    """A card of this machine, near a PCI device that stands in for a GPU: UCX has nothing to remark."""
    nic = _interface_here()
    command = ("hwnuma", "exec", "--gpus", nic.pci_address, "--nics", nic.name, "--export-nics", "ucx")
    assert _context(*command, LOCAL_RANK="0", LOCAL_WORLD_SIZE="1") == ""


def test_ucx_reads_each_name_and_port(tmp_path: Path) -> None:
    """Of a DGX's rails, which are not here, UCX names each one as it has read it: device and port."""
    dgx = TOPOLOGIES / "dgx_h100.xml"
    plan = ("hwnuma", "plan", "--topology", str(dgx), "--nics-per-rank", "2", "--export-nics", "ucx", "--format", "env")
    lines = subprocess.run(plan, env=environment(), cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    variable = lines.splitlines()[0].split()[-1]
    name, _, value = variable.partition("=")
    assert (name, len(value.split(","))) == ("UCX_NET_DEVICES", 2)
    said = _context(**{name: value})
    assert "is not available" in said or "are not available" in said
    assert all(device in said for device in value.split(","))
    with Topology.from_xml_file(dgx) as topology:
        assert {device.partition(":")[0] for device in value.split(",")} <= {
            nic.name for nic in topology.machine().nics
        }
