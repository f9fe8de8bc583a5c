"""The median of some samples, and the interval in which the median of all that could be sampled lies. Pure.

The interval is of order statistics (Conover, "Practical Nonparametric Statistics", 3.2; the same as the sign test's):
of n independent samples, the number that is below the true median is binomial with one half, whatever the distribution.
It assumes no normal noise, which times on a machine that others use too have not.
"""

from __future__ import annotations

from hwnuma.model.measured import Estimate, Ratio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# Of an interval. A machine of eight nodes has 280 pairs of quantities that its verdict sets side by side: two intervals
# of 99 % that do not overlap by chance (once in 7,000 times) would be found there by one run in twenty-five, and two of
# 99.9 % (once in 300,000 times) by one in a thousand.
CONFIDENCE = 0.999

# From so few samples, the least and the greatest of them are an interval of that confidence (1 - 2 / 2**11 = 99.90 %).
ENOUGH = 11


def median(samples: Sequence[float]) -> float:
    """The middle one, or the mean of the two in the middle."""
    ordered = sorted(samples)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def ranks_of_interval(count: int, confidence: float = CONFIDENCE) -> tuple[int, int, float]:
    """Which of so many samples, in order, are the ends of the narrowest symmetric interval of that confidence.

    Args:
        count: how many samples there are, at least one.
        confidence: the least that the interval is to have; with too few samples it has less, and is from the least to
            the greatest.

    Returns:
        The places of both ends, counted from 0, and the confidence that the interval has.
    """
    outside = 0.0  # the chance of fewer than `low + 1` samples below the median
    low, achieved = 0, 0.0
    term = 0.5**count  # the chance that just k of the samples are below the median
    for k in range((count + 1) // 2):
        outside += term
        if k > 0 and 1 - 2 * outside < confidence:
            break
        low, achieved = k, max(0.0, 1 - 2 * outside)
        term *= (count - k) / (k + 1)
    return low, count - 1 - low, achieved


def estimate(samples: Sequence[float], *, most_is_best: bool) -> Estimate:
    """What these samples say.

    Args:
        samples: at least one.
        most_is_best: as with bandwidth; with latency the least is.
    """
    ordered = sorted(samples)
    low, high, confidence = ranks_of_interval(len(ordered))
    best = ordered[-1] if most_is_best else ordered[0]
    return Estimate(median(ordered), ordered[low], ordered[high], best, len(ordered), confidence)


def ratio(one: Estimate, other: Estimate) -> Ratio:
    """How many times the other a quantity is; the interval holds the ratio of the medians where each holds its own."""
    return Ratio(one.median / other.median, one.low / other.high, one.high / other.low)
