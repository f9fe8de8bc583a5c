"""What libhwloc is made to look at on this system: what is asked for, and the same machine comes out."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fixtures import facts, sysfs
from hwnuma import CpuSet, Machine
from hwnuma.model import value
from tests.every_machine import quick_few
from tests.processes import answer_of, clean_environment
from tests.require import require

# With HWLOC_FSROOT: libhwloc reads that tree alone, and asks this machine's processor nothing.
VARIABLES = {"HWLOC_COMPONENTS": "linux,stop", "HWLOC_THISSYSTEM": "0"}

MACHINE = """
import json, pickle, sys
from hwnuma import Topology
with Topology.from_this_system(**json.loads(sys.argv[1])) as topology:
    print(json.dumps([pickle.dumps(topology.machine()).hex(), topology.export_xml().count("L1Cache")]))
"""


def _described(name: str, folder: Path, **changes: Any) -> Path:
    """The files of a fixture machine, or of one a little different."""
    root = folder / "machine"
    root.mkdir()
    sysfs.write(replace(facts.describe(facts.load(name)), **changes), root)
    return root


def _machine(root: Path, asked: str) -> tuple[Machine, int]:
    import pickle

    (pickled, first_caches), _ = answer_of(MACHINE, asked, HWLOC_FSROOT=str(root), **VARIABLES)
    return pickle.loads(bytes.fromhex(pickled)), first_caches


@pytest.mark.parametrize("name", quick_few(["dgx_a100_nps4", "gh200_x4", "frontier_mi250x"]))
def test_less_that_is_looked_at_gives_the_same_machine(name: str, memory_path: Path) -> None:
    """Without first-level caches all is the same, and without network or PCI devices all but these and their bridges."""
    root = _described(name, memory_path)
    whole, _ = _machine(root, "{}")
    assert _machine(root, '{"first_caches": false}')[0] == whole
    assert _machine(root, '{"network": false}')[0] == value.replace(
        whole,
        nics=(),
        pci_devices=tuple(value.replace(device, bridges=()) for device in whole.pci_devices),
    )
    assert whole.pci_devices
    without, _ = _machine(root, '{"pci": false, "first_caches": false}')
    assert without.pci_devices == ()
    assert (without.cores, without.numa_nodes, without.last_level_caches) == (
        whole.cores, whole.numa_nodes, whole.last_level_caches,
    )  # fmt: skip


def test_first_caches_are_looked_at_where_there_are_no_others(memory_path: Path) -> None:
    """A CPU whose only data cache is of the first level shares it with its siblings, asked for or not."""
    described = facts.describe(facts.load("epyc7763_nps1_smt2"))
    some = CpuSet("0-31")
    caches = tuple(cache for cache in described.caches if cache.level == 1 or cache.cpuset.isdisjoint(some))
    root = _described("epyc7763_nps1_smt2", memory_path, caches=caches)
    whole, _ = _machine(root, "{}")
    assert {cache.level for cache in whole.last_level_caches} == {1, 3}
    assert _machine(root, '{"first_caches": false}')[0] == whole


def _opened(root: Path, asked: str, folder: Path) -> list[str]:
    log = folder / "log"
    subprocess.run(
        ["strace", "-f", "-qq", "-e", "trace=open,openat", "-o", str(log), sys.executable, "-c", MACHINE, asked],
        check=True, stdout=subprocess.DEVNULL, env=clean_environment(HWLOC_FSROOT=str(root), **VARIABLES),
    )  # fmt: skip
    return [line.split('"')[1] for line in log.read_text().splitlines() if '"' in line]


@pytest.mark.slow  # under strace
def test_what_is_not_asked_for_is_not_read(memory_path: Path) -> None:
    """No file of a PCI device, and of first-level caches no size; with all asked for both are read."""
    require(shutil.which("strace") is not None, "strace is not installed")
    root = _described("dgx_a100_nps4", memory_path)
    whole = _opened(root, "{}", memory_path)
    less = _opened(root, '{"pci": false, "first_caches": false}', memory_path)
    for part in ("/bus/pci/devices/", "/cache/index0/size"):
        assert any(part in path for path in whole)
        assert not any(part in path for path in less)
