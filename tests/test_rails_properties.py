"""What holds of every matching, on distances made up from chance, against a brute-force optimum.

HWNUMA_PROPERTY_MACHINES in the environment makes the run longer or shorter: eight matchings for each machine of the other
property tests.
"""

from __future__ import annotations

from itertools import combinations, product
from random import Random

import pytest

from hwnuma.policy.matching import balanced, nearest
from tests.made_machines import PROPERTY_MACHINES

_SEED = 20_261_125


def _made(random: Random, most: int) -> list[list[int]]:
    """Distances of up to so many GPUs to up to so many NICs: by switches, as in real machines, or by chance."""
    gpus, nics = random.randint(1, most), random.randint(1, most)
    words = (1, 2, 3, 4, 5)[: random.randint(1, 5)]
    if random.random() < 0.4:
        return [[random.choice(words) for _ in range(nics)] for _ in range(gpus)]
    switch_of_gpu = [random.randrange(4) for _ in range(gpus)]
    switch_of_nic = [random.randrange(4) for _ in range(nics)]
    return [[1 if gpu == nic else 4 if gpu // 2 == nic // 2 else 5 for nic in switch_of_nic] for gpu in switch_of_gpu]


def _loads(given: list[list[int]], nics: int) -> list[int]:
    return [sum(nic in own for own in given) for nic in range(nics)]


def _least_fullest(distances: list[list[int]]) -> int:
    """How empty the fullest NIC can be if each GPU has one of its nearest: Hall's theorem, over all sets of GPUs.

    The GPUs of a set have no more NICs than are near to any of them, and one of these carries the average at least.
    """
    near = [sum(1 << nic for nic, distance in enumerate(row) if distance == min(row)) for row in distances]
    unions = [0] * (1 << len(near))
    least = 0
    for gpus in range(1, len(unions)):
        first = gpus & -gpus
        unions[gpus] = unions[gpus ^ first] | near[first.bit_length() - 1]
        least = max(least, -(-gpus.bit_count() // unions[gpus].bit_count()))
    return least


def _least_sum(distances: list[list[int]], limit: int) -> int:
    """The least sum of distances if no NIC carries more than the limit: over all loads, GPU by GPU."""
    best = {(0,) * len(distances[0]): 0}
    for row in distances:
        after: dict[tuple[int, ...], int] = {}
        for loads, total in best.items():
            for nic, distance in enumerate(row):
                if loads[nic] < limit:
                    more = (*loads[:nic], loads[nic] + 1, *loads[nic + 1 :])
                    after[more] = min(after.get(more, total + distance), total + distance)
        best = after
    return min(best.values())


@pytest.mark.parametrize("part", range(8))
def test_each_policy_is_the_brute_force_optimum(part: int) -> None:
    """near: a NIC of the nearest class, and the fullest is the least possible; balance: the least possible over all.

    And of balance, the sum of distances is the least at that load.
    """
    random = Random(_SEED + part)
    for _ in range(PROPERTY_MACHINES):
        distances = _made(random, 8)
        nics = len(distances[0])
        given = nearest(distances)
        assert all(row[own[0]] == min(row) for row, own in zip(distances, given, strict=True)), distances
        assert max(_loads(given, nics)) == _least_fullest(distances), distances
        given = balanced(distances)
        limit = -(-len(distances) // nics)
        assert max(_loads(given, nics)) == limit, distances
        total = sum(row[own[0]] for row, own in zip(distances, given, strict=True))
        assert total == _least_sum(distances, limit), distances


def test_ties_are_broken_by_gpu_then_nic() -> None:
    """Of all answers that are as good, to the last load, it is the first: GPU 0's first NIC, then GPU 1's, and so on.

    Compared with all answers that there are, for one to three NICs a GPU.
    """
    random = Random(_SEED)
    for _ in range(min(PROPERTY_MACHINES, 700)):
        distances = _made(random, 4)
        nics = len(distances[0])
        each = random.randint(1, min(3, nics))
        answers = [list(map(list, one)) for one in product(combinations(range(nics), each), repeat=len(distances))]

        def as_near(answer: list[list[int]]) -> bool:
            return all(
                sorted(row[nic] for nic in own) == sorted(row)[: len(own)]
                for row, own in zip(distances, answer, strict=True)  # noqa: B023 -- used at once
            )

        def evenness(answer: list[list[int]]) -> list[int]:
            return sorted(_loads(answer, nics), reverse=True)  # noqa: B023 -- used at once

        def total(answer: list[list[int]]) -> int:
            return sum(row[nic] for row, own in zip(distances, answer, strict=True) for nic in own)  # noqa: B023

        assert nearest(distances, each) == min(
            (answer for answer in answers if as_near(answer)), key=lambda answer: (evenness(answer), answer)
        ), (distances, each)
        assert balanced(distances, each) == min(
            answers, key=lambda answer: (max(evenness(answer)), total(answer), evenness(answer), answer)
        ), (distances, each)


@pytest.mark.parametrize("wanted", [1, 2])
def test_beside_a_nic_that_is_full_the_others_are_evened_out(wanted: int) -> None:
    """Three GPUs want a NIC that two can have, so one takes the last; two that are as near to two others take one each."""
    others = [nic for nic in range(3) if nic != wanted]
    far_from_it = [0 if nic in others else 9 for nic in range(4)]
    near_it = [{wanted: 0, 3: 1}.get(nic, 9) for nic in range(4)]
    assert balanced([far_from_it] * 2 + [near_it] * 3) == [[others[0]], [others[1]], [wanted], [wanted], [3]]


def test_a_nic_that_is_too_full_gives_up_as_many_as_it_must() -> None:
    """Four GPUs are as near to both NICs and come first, four more have only one of the two."""
    assert nearest([[0, 0]] * 4 + [[0, 9]] * 4) == [[1]] * 4 + [[0]] * 4


def test_no_gpu_and_no_nic() -> None:
    """Nothing is given where there is nobody to give to."""
    assert nearest([]) == []
    assert balanced([]) == []
