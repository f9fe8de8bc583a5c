"""hwnuma.model.value: frozen values that are dataclasses to whoever asks, without importing dataclasses."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys

import pytest

from hwnuma.model.value import Value, replace
from tests.conftest import ROOT


class Point(Value):
    """A value to test with."""

    x: int
    y: int = 2
    tags: tuple[str, ...] = ()


class Checked(Point):
    """One that inherits fields and converts one of them."""

    z: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "z", int(self.z))


def test_fields_come_by_place_by_name_or_by_default() -> None:
    """As in a dataclass; an inherited field comes first."""
    assert (Point(1).x, Point(1).y, Point(1, y=3).y, Point(1, 2, ("a",)).tags) == (1, 2, 3, ("a",))
    assert Checked(1, z="7") == Checked(1, 2, (), 7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "named", "said"),
    [
        ((), {}, "misses the arguments x"),
        ((1, 2, (), 4), {}, "takes 3 arguments but 4 were given"),
        ((1,), {"x": 1}, "multiple values for argument 'x'"),
        ((1,), {"w": 1}, "unexpected keyword argument 'w'"),
        ((), {"y": 1, "w": 1}, "unexpected keyword argument 'w'"),
        ((), {"y": 1, "tags": ()}, "misses the arguments x"),
    ],
)
def test_a_wrong_call_is_a_type_error(values: tuple[object, ...], named: dict[str, object], said: str) -> None:
    """It says what is wrong with the arguments."""
    with pytest.raises(TypeError, match=said):
        Point(*values, **named)  # type: ignore[arg-type]


def test_it_is_frozen() -> None:
    """Neither set nor deleted, and the error is that of a frozen dataclass."""
    point = Point(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del point.x


def test_equality_is_of_class_and_fields() -> None:
    """Equal values hash alike; another class is never equal."""
    assert Point(1) == Point(1, 2)
    assert hash(Point(1)) == hash(Point(1, 2))
    assert Point(1) != Point(2)
    assert Point(1) != Checked(1)
    assert Point(1) != (1, 2, ())
    assert repr(Point(1)) == "Point(x=1, y=2, tags=())"


def test_it_pickles_and_copies() -> None:
    """To an equal value."""
    assert pickle.loads(pickle.dumps(Checked(1, z=3))) == Checked(1, z=3)
    assert copy.deepcopy(Point(1)) == Point(1)
    assert replace(Point(1), y=5) == Point(1, 5) == Point(1).__replace__(y=5)
    with pytest.raises(TypeError, match="unexpected keyword argument 'w'"):
        replace(Point(1), w=5)


def test_it_is_a_dataclass_to_whoever_asks() -> None:
    """fields, replace, asdict and the signature are those of a dataclass."""
    assert dataclasses.is_dataclass(Point)
    assert [field.name for field in dataclasses.fields(Checked)] == ["x", "y", "tags", "z"]
    assert dataclasses.replace(Point(1), y=5) == Point(1, 5)
    assert dataclasses.asdict(Point(1)) == {"x": 1, "y": 2, "tags": ()}
    assert str(inspect.signature(Point)) == "(x: 'int', y: 'int' = 2, tags: 'tuple[str, ...]' = ())"


def test_it_matches_by_place() -> None:
    """In a match statement, as a dataclass does."""
    match Point(1, 3):
        case Point(x, y):
            assert (x, y) == (1, 3)


def test_it_does_not_import_dataclasses() -> None:
    """Making and comparing values loads none of what makes dataclasses slow to import."""
    code = (
        "import __future__, sys; before = set(sys.modules)\n"
        "from hwnuma.model.value import Value\n"
        "class P(Value):\n x: int = 1\n"
        "assert P() == P(1); print(*sorted(set(sys.modules) - before))"
    )
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).split()
    assert loaded == ["hwnuma", "hwnuma.model", "hwnuma.model.value"]


def test_what_is_worked_out_once_is_found_on_the_class_too() -> None:
    """As whoever writes documentation looks for it."""
    from hwnuma.model.machine import Machine
    from hwnuma.model.value import cached_property

    kept = [name for name, each in vars(Machine).items() if isinstance(each, cached_property)]
    assert kept
    assert all(getattr(Machine, name) is vars(Machine)[name] for name in kept)
