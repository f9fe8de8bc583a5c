"""What all tests share: the fixture machines, a switch to update golden files, and which libhwloc this runs on."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

from hwnuma import Machine, Topology

ROOT = Path(__file__).resolve().parent.parent
TOPOLOGIES = ROOT / "fixtures" / "topologies"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the switch that rewrites golden files from what the code answers now: read the diff before committing it."""
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden from what is answered now")


def pytest_configure() -> None:
    """Time no made-up case, since the machine may be busy; and be interruptible, and let what tests start be so.

    A shell starts what it runs in the background with SIGINT ignored.
    """
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    """Say which libhwloc the tests run on: another one can give other answers."""
    with Topology.from_synthetic("pu:1") as topology:
        return f"libhwloc {topology.machine().hwloc_version}"


@cache
def load_machine(name: str) -> Machine:
    """Load a fixture topology once."""
    with Topology.from_xml_file(TOPOLOGIES / f"{name}.xml") as topology:
        return topology.machine()


@pytest.fixture
def machine_of() -> Callable[[str], Machine]:
    """Give the function that loads a fixture topology by name."""
    return load_machine


def synthetic(description: str) -> Machine:
    """Make a machine of hwloc's synthetic description."""
    with Topology.from_synthetic(description) as topology:
        return topology.machine()
