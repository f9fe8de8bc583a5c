"""Copies to and from GPUs: where they are measured."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hwnuma.model.machine import Machine


def measure_gpus(_machine: Machine, _seconds: float) -> tuple[tuple[dict[str, object], ...], tuple[str, ...]]:
    """Measure the copies of each GPU.

    Returns:
        A row a GPU in the form that JSON has, and sentences for the verdict.
    """
    return (), ()
