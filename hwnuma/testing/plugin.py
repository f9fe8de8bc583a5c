"""The pytest plug-in: the fixture `hwnuma_machine`. Loaded in every run, so it imports nothing until that is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hwnuma.testing.fake_machine import FakeMachine


@pytest.fixture
def hwnuma_machine() -> Iterator[Callable[..., FakeMachine]]:
    """Make this process see another machine, in a with block or until the test's end.

    ``with hwnuma_machine("dgx_h100") as machine: …``

    It takes what `hwnuma.testing.machine` takes. Without ``with``, the machine is left when the test ends.
    """
    from hwnuma.testing.fake_machine import machine as make  # only now: it loads libhwloc

    entered: list[FakeMachine] = []

    def hwnuma_machine(*what: Any, **how: Any) -> FakeMachine:
        made = make(*what, **how)
        entered.append(made.enter())
        return made

    try:
        yield hwnuma_machine
    finally:
        for made in reversed(entered):
            made.leave()
