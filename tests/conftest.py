"""What all tests share: the fixture machines, a switch to update golden files, and which libhwloc this runs on."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

from fixtures.generate import memory_folder
from hwnuma import Machine, Topology
from tests.affinity import BEFORE, affinity
from tests.require import require

ROOT = Path(__file__).resolve().parent.parent
TOPOLOGIES = ROOT / "fixtures" / "topologies"
_NONE_QUICK = ("drawing", "packaging", "platforms", "sanitizers", "vm")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the switch that rewrites golden files from what the code answers now: read the diff before committing it."""
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden from what is answered now")


def pytest_configure() -> None:
    """Time no made-up case, since the machine may be busy; and be interruptible, and let what tests start be so.

    A shell starts what it runs in the background with SIGINT ignored. And let what tests start keep what it compiles:
    hundreds of processes would otherwise each compile hwnuma anew, which takes longer than all else that they do.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than CPUs, since some tests wait, for what hangs: that is ``-n auto``."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave alone, where the quick tests are asked for, the folders of which none is one: a second for each process."""
    is_quick = config.option.markexpr in config.getini("addopts")
    return (
        True if is_quick and collection_path.parent == ROOT / "tests" and collection_path.name in _NONE_QUICK else None
    )


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Let ``-n`` give each process whole files: tests of one file share what its fixtures make, once in each process."""
    if getattr(config.option, "numprocesses", None) and config.option.dist == "no":
        config.option.dist = "loadfile"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What launchers warn of is theirs, and another release's is another warning: it is told, and fails nothing."""
    for item in items:
        if item.get_closest_marker("launchers"):
            item.add_marker(pytest.mark.filterwarnings("default"))


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


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """Give a folder in memory, for a machine as ten thousand small files."""
    with tempfile.TemporaryDirectory(prefix="hwnuma-test-", dir=memory_folder()) as folder:
        yield Path(folder)


def synthetic(description: str) -> Machine:
    """Make a machine of hwloc's synthetic description."""
    with Topology.from_synthetic(description) as topology:
        return topology.machine()


@pytest.fixture
def two_cpus() -> None:
    """For tests that move something."""
    require(len(BEFORE) >= 2, "this process may use one CPU only, and moving needs two")


@pytest.fixture
def two_cpus_and_back(two_cpus: None) -> Iterator[None]:  # noqa: ARG001
    """The same, where a test moves this process: it is put back."""
    yield
    os.sched_setaffinity(0, BEFORE)


@pytest.fixture
def two_cpus_untouched(two_cpus: None) -> Iterator[None]:  # noqa: ARG001
    """The same, where a test moves others: this process is left where it was."""
    yield
    assert affinity() == BEFORE
