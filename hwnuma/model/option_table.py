"""How an option is declared, once: beside the field that it fills.

A Value whose fields carry an `Option` can be made of the command line's texts and of the environment's variables. The
command line, its help, the variables and the reference page in the documentation are all read off these declarations.
"""

from __future__ import annotations

from hwnuma.errors import OptionError
from hwnuma.model.characters import shown
from hwnuma.model.numbers import is_number
from hwnuma.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

PREFIX = "HWNUMA_"

# A longer number is a typing mistake.
_MOST_DIGITS = 9


class Option(Value):
    """One option: ``--local-rank`` on the command line, ``HWNUMA_LOCAL_RANK`` in the environment.

    Attributes:
        flag: as on the command line.
        convert: from its text to the field's value; raises ValueError with the reason.
        about: what it is for, in ``--help``, in the reference page and in the class's own documentation.
        metavar: what stands for the value in ``--help``; "" for a switch.
        group: the heading that it stands under.
        example: a value of it other than the default, for documentation and tests.
        unsaid: the text that counts where nobody says anything and the field has no default.
        bare: the text that the option stands for when it is given without a value; "" if it needs one.
        words: with `bare`: the values by which one is told from a command that follows.
    """

    flag: str
    convert: Callable[[str], Any]
    about: str
    metavar: str = ""
    group: str = ""
    example: str = "1"
    unsaid: str = ""
    bare: str = ""
    words: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The option's key among the texts of a command line."""
        return self.flag.lstrip("-").replace("-", "_")

    @property
    def variable(self) -> str:
        """The environment variable of the same meaning."""
        return f"{PREFIX}{self.name.upper()}"


def options_of(*kinds: type[Value]) -> tuple[Option, ...]:
    """The options that fill the fields of these classes, each flag once (two fields may be filled by one flag)."""
    found: dict[str, Option] = {}
    for kind in kinds:
        for option in kind._options.values():
            found.setdefault(option.flag, option)
    return tuple(found.values())


def said(kind: type[Value], texts: Mapping[str, str | None], environment: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a class that somebody says something of: on the command line, or else in the environment.

    Args:
        kind: a Value whose fields have options.
        texts: the command line's, by `Option.name`; None or missing where it says nothing.
        environment: its variables count where the command line says nothing; an empty one says nothing.

    Returns:
        The constructor's arguments.

    Raises:
        OptionError: a value makes no sense; the message names the option or the variable.
    """
    values = {}
    for field, option in kind._options.items():
        text, origin = texts.get(option.name), option.flag
        if text is None:
            text, origin = environment.get(option.variable) or option.unsaid, option.variable
        if text == "" and origin is not option.flag:
            continue
        try:
            values[field] = option.convert(text)
        except ValueError as error:
            raise OptionError(f"{origin}: {error}") from None
    return values


def attributes_text(kind: type[Value]) -> str:
    """The fields of a class that options fill, as its docstring lists them."""
    rows = (f"        {name}: {option.about} ({option.flag})." for name, option in kind._options.items())
    return "\n".join(("    Attributes:", *rows, "    "))


# ---- from an option's text to its value ----------------------------------------------------------------------


def switch(text: str) -> bool:
    """Read a switch.

    Raises:
        OptionError: it is neither on nor off.
    """
    known = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in known:
        raise OptionError(f"{shown(text)} is neither 1 nor 0")
    return known[text.lower()]


class Count:
    """What reads a whole number, and knows the least that makes sense."""

    def __init__(self, *, least: int | None = None) -> None:
        self.least = least

    def __call__(self, text: str) -> int:
        """Read a text.

        Raises:
            OptionError: it is no whole number.
        """
        if not is_number(text.strip().removeprefix("-"), _MOST_DIGITS):
            raise OptionError(f"{shown(text)} is no whole number")
        return int(text)

    def check(self, name: str, value: int) -> None:
        """Refuse a number that makes no sense.

        Raises:
            OptionError: it is below the least.
        """
        if self.least is not None and value < self.least:
            raise OptionError(f"{name}={value} makes no sense: it is at least {self.least}")


def one_of(words: Mapping[str, Any]) -> Callable[[str], Any]:
    """Make what reads one of some words, each with its value."""

    def convert(text: str) -> Any:
        if text not in words:
            raise OptionError(f"{shown(text)} is neither {' nor '.join(words)}")
        return words[text]

    return convert


def values_of(kind: Iterable[Any]) -> str:
    """The values of an enumeration, as ``--help`` shows them."""
    return "|".join(member.value for member in kind)
