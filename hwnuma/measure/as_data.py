"""What was measured, in the form that JSON has it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hwnuma.model.measured import Estimate


def estimate_as_data(estimate: Estimate) -> dict[str, float]:
    """A median and its interval as plain values."""
    return {"median": estimate.median, "low": estimate.low, "high": estimate.high}
