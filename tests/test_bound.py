"""Bound: functions that bind first, picklable wherever the function is."""

from __future__ import annotations

import functools
import inspect
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest

from hwnuma.errors import LocalRankError, NoAllowedCpusError
from hwnuma.integrations import processes, torch
from hwnuma.launch.bound import Bound
from hwnuma.model.plan import Binding

told: list[object] = []


def note(**how: object) -> Binding:
    """Stand for binding: note how it was called."""
    told.append(how)
    return Binding(0)


def refuse(**_how: object) -> Binding:
    """Stand for binding that fails."""
    raise LocalRankError("no rank")


def train(number: int, *, twice: bool = False) -> int:
    """Return the number, or its double."""
    told.append(number)
    return 2 * number if twice else number


@pytest.fixture(autouse=True)
def _nothing_told() -> None:
    told.clear()


def test_it_binds_and_then_calls_the_function() -> None:
    """Arguments and the result pass through; binding comes first."""
    assert Bound(train, note)(3, twice=True) == 6
    assert told == [{}, 3]


def test_the_rank_may_be_the_first_argument() -> None:
    """As torch.multiprocessing.spawn calls its function; the function gets it too."""
    assert Bound(train, note, rank_is_first_argument=True)(3) == 3
    assert told == [{"local_rank": 3}, 3]


def test_the_function_is_not_called_where_binding_fails() -> None:
    """The error comes out, and nothing was done."""
    with pytest.raises(LocalRankError):
        Bound(train, refuse)(3)
    assert told == []


@pytest.mark.parametrize("make", [lambda function: Bound(function, note), lambda function: pickled(function)])
def test_it_looks_like_the_function(make: Callable[[Callable[..., Any]], Bound[..., Any]]) -> None:
    """Name, documentation and signature are the function's, after pickling too."""
    bound = make(train)
    assert (bound.__name__, bound.__qualname__, bound.__doc__) == ("train", "train", train.__doc__)
    assert inspect.signature(bound) == inspect.signature(train)


def test_a_function_without_a_name_gets_that_of_its_kind() -> None:
    """Torch refuses a worker function without __name__ and __qualname__, which a functools.partial has not."""
    bound = Bound(functools.partial(train, 3), note)
    assert (bound.__name__, bound.__qualname__) == ("partial", "partial")


def test_it_pickles_where_the_function_does() -> None:
    """A function pickles by its name, whatever hangs on it: here an annotation and an attribute that do not pickle."""
    bound = pickled(awkward)
    assert bound(5) == 5
    assert told == [{}, 5]


def awkward(number: int) -> int:
    """Return the number."""
    told.append(number)
    return number


awkward.__annotations__["number"] = lambda: None
awkward.lock = threading.Lock()  # type: ignore[attr-defined]


def pickled(function: Callable[..., Any]) -> Bound[..., Any]:
    """Bind a function first, and send it to another process."""
    sent: Bound[..., Any] = pickle.loads(pickle.dumps(Bound(function, note)))
    return sent


def test_the_bounds_of_the_integrations_are_this_one() -> None:
    """Each pickles, keeps what it was given, and refuses a place with an error before anything is started."""
    place = Binding(1, error=NoAllowedCpusError("none"))
    with pytest.raises(NoAllowedCpusError):
        processes.Bound(train, place)
    kept = pickle.loads(pickle.dumps(processes.Bound(train, Binding(1))))
    assert isinstance(kept, Bound)
    assert (kept.function, kept.binding) == (train, Binding(1))
    elastic = pickle.loads(pickle.dumps(torch.Bound(train, "exclusive", ranks=2, rank_is_first_argument=True)))
    assert isinstance(elastic, Bound)
    assert elastic.function is train
