"""Guests for tests: each machine boots once a session, two at a time, and tells facts that tests then look at."""

from __future__ import annotations

import compileall
import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.require import require

from . import lab
from .machines import CPULESS_HMAT, FOUR_NODES, MACHINES, OFFLINE_RESTRICTED, SINGLE, TWO_SOCKET_NPS2, Machine

# Where torchrun is started: four nodes with four displays where each mode gives other CPUs, and one with nodes of
# memory alone. It takes a guest a minute to import torch.
TORCHRUN_MACHINES = (TWO_SOCKET_NPS2.name, CPULESS_HMAT.name)
# Where torch's own functions are asked for their plan: the other two are parts of these (four-nodes is two-socket-nps2 with
# one L3 a node, and cpuless is cpuless-hmat without its table), and tests/differential asks for every fixture.
TORCH_MACHINES = (*TORCHRUN_MACHINES, OFFLINE_RESTRICTED.name, SINGLE.name)
# Where memory policies and migration are tried: four nodes with memory and CPUs, a display on each.
MEMORY_MACHINE = FOUR_NODES.name
# The slowest first, so that no core is idle at the end.
_ORDER = (*TORCHRUN_MACHINES, MEMORY_MACHINE, OFFLINE_RESTRICTED.name)

REPOSITORY = Path(__file__).resolve().parents[2]
_SECTIONS = ("kernel", "topology", "plan", "plan-node-zero", "exec", "capture", "plans")
_TIMEOUT = 1500.0
# A guest keeps one core busy, whatever it has inside.
_GUESTS_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Guest:
    """A machine that was booted, and what was found in it.

    Attributes:
        machine: what QEMU was asked for.
        out: the folder with the files that were left for the host.
        facts: what `guest_checks` printed.
    """

    machine: Machine
    out: Path
    facts: dict[str, Any]

    def section(self, name: str) -> Any:
        """Return one section of the facts; fail the test if it failed in the guest."""
        assert name not in self.facts["failed"], self.facts["failed"][name]
        return self.facts[name]


def _has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def _require(condition: bool, reason: str) -> None:
    """Skip a test that cannot run here; fail it where HWNUMA_REQUIRE_VM=1 or HWNUMA_REQUIRE is set, as in CI."""
    if not condition and os.environ.get("HWNUMA_REQUIRE_VM") == "1":
        pytest.fail(f"HWNUMA_REQUIRE_VM=1, and {reason}", pytrace=False)
    require(condition, reason)


def _boot(machine: Machine, out: Path) -> Guest:
    sections = [*_SECTIONS]
    sections += ["memory", "bench", "defeaters", "compare", "copies"] if machine.name == MEMORY_MACHINE else []
    # Torch last, since it is told not to log. It is imported for torchrun, and not otherwise.
    sections += ["torchrun"] if machine.name in TORCHRUN_MACHINES and _has_torch() else []
    sections += ["torch"] if machine.name in TORCH_MACHINES and _has_torch() else []
    gpus = ",".join(machine.display_addresses())
    command = [sys.executable, "-m", "tests.vm.guest_checks", "--gpus", gpus, *sections]
    result = lab.run(machine, command, folder=REPOSITORY, timeout=_TIMEOUT, out=out)
    assert result.status == 0, result.stderr
    return Guest(machine, out, json.loads(result.stdout))


@pytest.fixture(scope="session")
def vm_lab() -> None:
    """Skip the test, or fail it where it is required, if guests cannot be booted here."""
    lacking = lab.missing()
    _require(lacking is None, lacking or "")


@pytest.fixture(scope="session")
def boots(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    vm_lab: None,  # noqa: ARG001
) -> Iterator[dict[str, Future[Guest]]]:
    """Start all the guests that this session's tests want, so that one boots while another is looked at."""
    parameters = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    wanted = {each["guest"] for each in parameters if each.get("guest") in MACHINES}
    ordered = sorted(wanted, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))
    # What is not compiled here, every Python in every guest compiles again, and slowly.
    for folder in ("hwnuma", "tests"):
        compileall.compile_dir(REPOSITORY / folder, quiet=2)
    executor = ThreadPoolExecutor(_GUESTS_AT_ONCE)
    yield {name: executor.submit(_boot, MACHINES[name], tmp_path_factory.mktemp(name)) for name in ordered}
    executor.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def guest(request: pytest.FixtureRequest, boots: dict[str, Future[Guest]]) -> Guest:
    """The guest of the machine that the test names as its (indirect) parameter."""
    return boots[request.param].result()


@pytest.fixture(scope="session")
def guest_with_torch(guest: Guest) -> Guest:
    """The same, where torch is asked too."""
    _require(_has_torch(), "torch is not installed, which the plans are compared with")
    return guest
