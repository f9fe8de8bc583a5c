"""Test a launcher with no hardware: this process sees another machine, and what it would have bound is recorded.

::

    def test_every_rank_has_a_place(hwnuma_machine):            # the fixture of the pytest plug-in
        with hwnuma_machine("dgx_h100") as machine:
            my_launcher.start()
        assert machine.rank(7).cpus == CpuSet("56-111,168-223")

Without pytest it is `machine`. Each name is imported when it is first asked for (PEP 562): pytest imports the plug-in
in every run of an environment that has hwnuma, and most of them have no use for it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hwnuma.testing.children import fake_nvml
    from hwnuma.testing.fake_machine import FakeMachine, machine
    from hwnuma.testing.nvml import FakeGpu, FakeMig, FakeNvml
    from hwnuma.testing.record import Bound, Executed
    from hwnuma.testing.topologies import machines

__all__ = [
    "Bound",
    "Executed",
    "FakeGpu",
    "FakeMachine",
    "FakeMig",
    "FakeNvml",
    "fake_nvml",
    "machine",
    "machines",
]

_ROOMS = {
    "children": ("fake_nvml",),
    "fake_machine": ("FakeMachine", "machine"),
    "nvml": ("FakeGpu", "FakeMig", "FakeNvml"),
    "record": ("Bound", "Executed"),
    "topologies": ("machines",),
}


def _find(name: str) -> object:
    """Import a public name from the module that it lives in."""
    from importlib import import_module  # only now, as in `hwnuma`

    room = next((room for room, names in _ROOMS.items() if name in names), None)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(f"{__name__}.{room}"), name)
    return found


if not TYPE_CHECKING:
    __getattr__ = _find


def __dir__() -> list[str]:
    return [*globals(), *__all__]
