"""Value: what frozen values share, for a thirtieth of what it costs to import dataclasses.

``hwnuma exec`` runs once a worker, and importing dataclasses (and inspect with it) takes as long as starting Python. To
whoever asks, a Value is a dataclass all the same: `dataclasses.fields`, ``replace`` and ``asdict`` work on it, and so
do type checkers (PEP 681).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import dataclasses
    import inspect
    from collections.abc import Callable
    from typing import Any, ClassVar, Generic, TypeVar, overload

    from typing_extensions import dataclass_transform

    from hwnuma.model.option_table import Option

    _ValueT = TypeVar("_ValueT", bound="Value")
    _Held = TypeVar("_Held")
    _Given = TypeVar("_Given")

    class Converted(Generic[_Held, _Given]):
        """The type of a field that takes more than it holds, since ``__post_init__`` converts it.

        PEP 681 has type checkers read a field's type off what a descriptor gives, and an argument's off what it takes.
        """

        @overload
        def __get__(self, instance: None, owner: object) -> Converted[_Held, _Given]: ...
        @overload
        def __get__(self, instance: object, owner: object) -> _Held: ...
        def __get__(self, instance: object, owner: object) -> Converted[_Held, _Given] | _Held: ...
        def __set__(self, instance: object, value: _Given) -> None: ...
else:

    def dataclass_transform(**_options: object) -> object:
        """Stand in for PEP 681's decorator, which only type checkers read."""
        return lambda decorated: decorated


_NO_DEFAULT = object()


class _Field:
    """A field's declaration that says more than its default."""

    def __init__(self, default: Any, option: Option | None) -> None:
        self.default, self.option = default, option


def field(*, default: Any = _NO_DEFAULT, option: Option | None = None) -> Any:
    """Declare a field: its default, if it has one, and the option that fills it (`hwnuma.model.option_table`)."""
    return _Field(default, option)


class _MadeWhenAsked:
    """A class attribute that is worked out from the class each time it is asked for."""

    def __init__(self, make: Callable[[type[Value]], Any]) -> None:
        self.make = make

    def __get__(self, _instance: Value | None, owner: type[Value]) -> Any:
        return self.make(owner)


def _dataclass_fields(kind: type[Value]) -> dict[str, Any]:
    import dataclasses  # only now: whoever asks for this has imported it already

    def declared(name: str) -> Any:
        if name not in kind._defaults:
            return dataclasses.field()
        return dataclasses.field(default_factory=lambda: kind._defaults[name])

    rows = [(name, kind._annotations[name], declared(name)) for name in kind._fields]
    made: dict[str, Any] = dataclasses.make_dataclass(kind.__name__, rows).__dataclass_fields__  # type: ignore[attr-defined]
    return made


def _signature(kind: type[Value]) -> inspect.Signature:
    import inspect  # only now: whoever asks for this has imported it already

    return inspect.Signature(
        [
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=kind._defaults.get(name, inspect.Parameter.empty),
                annotation=kind._annotations[name],
            )
            for name in kind._fields
        ]
    )


def _is_class_variable(kind: object) -> bool:
    return str(kind).removeprefix("typing.").startswith("ClassVar")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Value:
    """A frozen value: its fields are the annotated names of its class, in order, with the defaults given there.

    Equal if it is of the same class and all fields are equal; hashable and picklable if its fields are. A subclass may
    define ``__post_init__`` to check or convert its fields (with ``object.__setattr__``, as in a frozen dataclass).
    """

    _fields: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[dict[str, Any]] = {}
    _annotations: ClassVar[dict[str, str]] = {}
    _options: ClassVar[dict[str, Option]] = {}
    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]
        __signature__: ClassVar[inspect.Signature]
    else:
        __dataclass_fields__ = _MadeWhenAsked(_dataclass_fields)
        __signature__ = _MadeWhenAsked(_signature)

    def __init_subclass__(cls) -> None:
        """Read the fields off the class."""
        own = {name: kind for name, kind in cls.__annotations__.items() if not _is_class_variable(kind)}
        cls._annotations = {**cls._annotations, **own}
        cls._fields = tuple(cls._annotations)
        setattr(cls, "__match_args__", cls._fields)  # noqa: B010 -- type checkers make their own
        cls._defaults, cls._options = dict(cls._defaults), dict(cls._options)
        for name in own:
            if name in cls.__dict__:
                cls._declare(name, cls.__dict__[name])

    @classmethod
    def _declare(cls, name: str, declared: Any) -> None:
        """Keep what the class says of a field: its default, or a `field`."""
        if not isinstance(declared, _Field):
            cls._defaults[name] = declared
            return
        if declared.option is not None:
            cls._options[name] = declared.option
        if declared.default is _NO_DEFAULT:
            delattr(cls, name)
        else:
            cls._defaults[name] = declared.default
            setattr(cls, name, declared.default)

    def __init__(self, *values: Any, **named: Any) -> None:
        state, fields = self.__dict__, self._fields
        if len(values) != len(fields):
            state.update(self._defaults)
        state.update(zip(fields, values))  # noqa: B905 -- counted below
        state.update(named)
        wrong = len(state) != len(fields) or len(values) > len(fields)
        if wrong or (named and not named.keys() <= {*fields[len(values) :]}):
            raise TypeError(self._misfit(values, named))
        self.__post_init__()

    def __post_init__(self) -> None:
        """Check or convert the fields; nothing here."""

    @classmethod
    def _misfit(cls, values: tuple[Any, ...], named: dict[str, Any]) -> str:
        """Say why these are not the arguments that the class takes, in Python's own words."""
        by_place = cls._fields[: len(values)]
        missing = [name for name in cls._fields if name not in {*by_place, *named, *cls._defaults}]
        twice = [name for name in by_place if name in named]
        unknown = [name for name in named if name not in cls._fields]
        if unknown:
            return f"{cls.__name__}() got an unexpected keyword argument {unknown[0]!r}"
        if twice:
            return f"{cls.__name__}() got multiple values for argument {twice[0]!r}"
        if missing:
            return f"{cls.__name__}() misses the arguments {', '.join(missing)}"
        return f"{cls.__name__}() takes {len(cls._fields)} arguments but {len(values)} were given"

    def _values(self) -> tuple[Any, ...]:
        state = self.__dict__
        return tuple([state[name] for name in self._fields])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Value) or type(other) is not type(self):
            return NotImplemented
        return self is other or self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields)
        return f"{type(self).__qualname__}({shown})"

    def __setattr__(self, name: str, value: object) -> None:
        from dataclasses import FrozenInstanceError  # only now: this is somebody's mistake

        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        from dataclasses import FrozenInstanceError  # only now: this is somebody's mistake

        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __replace__(self: _ValueT, **changes: Any) -> _ValueT:
        """Give the same value with some fields changed (``copy.replace``, Python 3.13)."""
        return replace(self, **changes)


def replace(value: _ValueT, **changes: Any) -> _ValueT:
    """Give the same value with some fields changed, as dataclasses.replace does.

    Raises:
        TypeError: there is no such field.
    """
    return type(value)(**{**dict(zip(value._fields, value._values(), strict=True)), **changes})
