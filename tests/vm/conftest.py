"""Guests for tests: each machine boots once a session, two at a time, and tells facts that tests then look at."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from . import lab
from .machines import MACHINES, Machine

_REPOSITORY = Path(__file__).resolve().parents[2]
_BOOT_AND_CHECKS_TIMEOUT = 300.0
_GUESTS_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Guest:
    """A machine that has been booted, and what was found in it.

    Attributes:
        machine: what QEMU was asked for.
        facts: what `guest_checks` printed, by section.
    """

    machine: Machine
    facts: dict[str, dict[str, Any]]


def _boot(machine: Machine) -> Guest:
    command = [sys.executable, "-m", "tests.vm.guest_checks", "kernel"]
    result = lab.run(machine, command, folder=_REPOSITORY, timeout=_BOOT_AND_CHECKS_TIMEOUT)
    assert result.status == 0, result.stderr
    return Guest(machine, json.loads(result.stdout))


@pytest.fixture(scope="session")
def vm_lab() -> None:
    """Skip the test, or fail where HWNUMA_REQUIRE_VM=1, if guests cannot be booted here."""
    lacking = lab.missing()
    if lacking and os.environ.get("HWNUMA_REQUIRE_VM") == "1":
        pytest.fail(f"HWNUMA_REQUIRE_VM=1, but there is {lacking}")
    if lacking:
        pytest.skip(lacking)


@pytest.fixture(scope="session")
def boots(request: pytest.FixtureRequest, vm_lab: None) -> Iterator[dict[str, Future[Guest]]]:
    """Start all the guests that this session's tests want, so that one boots while another is looked at."""
    wanted = {
        item.callspec.params["guest"]: None
        for item in request.session.items
        if "guest" in getattr(getattr(item, "callspec", None), "params", ())
    }
    executor = ThreadPoolExecutor(_GUESTS_AT_ONCE)
    yield {name: executor.submit(_boot, MACHINES[name]) for name in wanted}
    executor.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def guest(request: pytest.FixtureRequest, boots: dict[str, Future[Guest]]) -> Guest:
    """The guest of the machine that the test names as its (indirect) parameter."""
    return boots[request.param].result()
