"""The median's interval: known answers of the tables, what holds of all samples, and how often it holds the median."""

from __future__ import annotations

import random
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnuma.measure.statistics import CONFIDENCE, ENOUGH, estimate, median, ranks_of_interval, ratio

SAMPLES = st.lists(st.floats(min_value=1e-9, max_value=1e12), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("count", "wanted", "first", "last", "confidence"),
    # The sign test's intervals: such as Conover's "Practical Nonparametric Statistics", table A3, gives them.
    [
        (6, 0.95, 1, 6, 0.9688),
        (8, 0.95, 1, 8, 0.9922),
        (9, 0.95, 2, 8, 0.9609),
        (10, 0.95, 2, 9, 0.9785),
        (12, 0.99, 2, 11, 0.9937),
        (15, 0.99, 3, 13, 0.9926),
        (15, 0.999, 2, 14, 0.999),
        (20, 0.95, 6, 15, 0.9586),
        (25, 0.95, 8, 18, 0.9567),
    ],
)
def test_the_intervals_of_the_tables(count: int, wanted: float, first: int, last: int, confidence: float) -> None:
    """Which samples in order are the ends, and the confidence that this gives."""
    low, high, achieved = ranks_of_interval(count, wanted)
    assert (low + 1, high + 1, round(achieved, 4)) == (first, last, confidence)


def test_too_few_samples_have_less_confidence_and_say_so() -> None:
    """From the least to the greatest, which is all that there is: of one sample none at all."""
    assert ranks_of_interval(1) == (0, 0, 0.0)
    assert ranks_of_interval(3) == (0, 2, 0.75)
    assert ranks_of_interval(ENOUGH - 1)[2] < CONFIDENCE <= ranks_of_interval(ENOUGH)[2]


@given(SAMPLES, st.booleans())
def test_the_interval_holds_the_samples_median(samples: list[float], most_is_best: bool) -> None:
    """And lies within the samples, whose best is one of them."""
    found = estimate(samples, most_is_best=most_is_best)
    assert min(samples) <= found.low <= found.median <= found.high <= max(samples)
    assert found.best == (max(samples) if most_is_best else min(samples))
    assert found.samples == len(samples)


@given(SAMPLES, st.randoms(use_true_random=False))
def test_the_order_of_the_samples_says_nothing(samples: list[float], chance: random.Random) -> None:
    """Shuffled, they give the same."""
    shuffled = list(samples)
    chance.shuffle(shuffled)
    assert estimate(shuffled, most_is_best=True) == estimate(samples, most_is_best=True)


@given(SAMPLES, SAMPLES)
def test_a_ratios_interval_holds_the_ratio(one: list[float], other: list[float]) -> None:
    """Of the medians; and 1 is in it if the two intervals overlap."""
    first, second = (estimate(samples, most_is_best=True) for samples in (one, other))
    found = ratio(first, second)
    assert found.low <= found.median <= found.high
    if first.overlaps(second):
        assert found.low <= 1 <= found.high


@pytest.mark.parametrize("count", [11, 15, 25, 60])
def test_the_interval_holds_the_true_median_as_often_as_it_says(count: int) -> None:
    """Of a distribution with a long tail, as times have one: 4,000 times, with the same numbers each time."""
    chance = random.Random(count)
    true = 0.6931471805599453  # of the exponential distribution
    found = [estimate([chance.expovariate(1) for _ in range(count)], most_is_best=False) for _ in range(4000)]
    part = sum(each.low <= true <= each.high for each in found) / len(found)
    assert part == pytest.approx(found[0].confidence, abs=0.005)
    assert found[0].confidence >= CONFIDENCE


@pytest.mark.parametrize("count", [11, 12, 15, 16, 20, 30, 60])
def test_intervals_of_equal_quantities_do_not_overlap_once_in_300_000_times(count: int) -> None:
    """So many samples of each, in all orders that they can have: what docs/how-to/bench.md says of its verdict."""
    low, high, _ = ranks_of_interval(count)
    # All of one interval lies below the other: the first one's end comes before the other one's beginning, which has
    # `low` samples of its own before it, and `before` of the first one's.
    orders = sum(
        comb(before + low, low) * comb((count - before) + (count - low - 1), count - before)
        for before in range(high + 1, count + 1)
    )
    assert 2 * orders / comb(2 * count, count) < 1 / 300_000


@given(SAMPLES)
def test_the_median_is_the_libraries(samples: list[float]) -> None:
    """As Python's own statistics has it."""
    import statistics

    assert median(samples) == statistics.median(samples)
