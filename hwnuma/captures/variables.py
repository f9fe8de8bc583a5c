"""The environment variables that a capture keeps, since a plan depends on them, and how they count elsewhere. Pure."""

from __future__ import annotations

from hwnuma.devices.visible import ORDER_VARIABLES, VISIBLE_DEVICES
from hwnuma.environment.local_rank import NODE_VARIABLES, VARIABLES
from hwnuma.model.option_table import PREFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from hwnuma.model.facts import Facts

# What NVIDIA's container runtime was told is kept for who reads a capture: no plan depends on it, since the driver
# shows what it left.
KEPT = (
    *VISIBLE_DEVICES,
    *ORDER_VARIABLES,
    "NVIDIA_VISIBLE_DEVICES",
    *(each.size for each in VARIABLES if each.size),
    *NODE_VARIABLES,
)


def kept(environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The variables to keep of an environment, in one order. One that is set to nothing is kept as that."""
    return tuple((name, environment[name]) for name in dict.fromkeys(KEPT) if name in environment)


def environment_there(facts: Facts, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment that a plan for a captured machine goes by.

    Args:
        facts: what was captured: its variables count as they did there. Others in a file count for nothing.
        environment: this process's: the ``HWNUMA_…`` variables are what somebody asks for here.
    """
    captured = {name: value for name, value in facts.variables if name in KEPT}
    return captured | {name: value for name, value in environment.items() if name.startswith(PREFIX)}
