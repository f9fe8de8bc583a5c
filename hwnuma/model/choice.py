"""Choice: an enumeration of strings, without the module enum.

To import enum, and functools and collections with it, costs a rank half as much as Python's own start, and each of its
classes ten times an ordinary one. What callers do with an enumeration works here too: members are strings, there is one
of each value (`is` holds, through pickling also), and they are iterated over, looked up by value and by name. Type
checkers see an `enum.Enum`.
"""

from __future__ import annotations

from hwnuma.errors import OptionError
from hwnuma.model.characters import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    import enum
    from collections.abc import Iterator
    from typing import Any

    class Choice(str, enum.Enum):
        """One of some words."""

        @classmethod
        def _missing_(cls, value: object) -> Any: ...

else:

    class _Members(type):
        """The class of the classes: makes members of the words in a class's body, and finds them."""

        __members__: dict[str, Choice]

        def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> _Members:
            made = super().__new__(cls, name, bases, body)
            made.__members__ = {}
            for word, value in body.items():
                if word.isupper() and isinstance(value, str):
                    member = str.__new__(made, value)
                    member.name = word
                    made.__members__[word] = member
                    setattr(made, word, member)
            made._by_value = {member.value: member for member in made}
            return made

        def __call__(cls, value: object) -> Choice:
            found = cls._by_value.get(value) if isinstance(value, str) else None
            return cls._missing_(value) if found is None else found

        def __iter__(cls) -> Iterator[Choice]:
            return iter(cls.__members__.values())

        def __len__(cls) -> int:
            return len(cls.__members__)

        def __contains__(cls, value: object) -> bool:
            return isinstance(value, str) and value in cls._by_value

        def __getitem__(cls, name: str) -> Choice:
            return cls.__members__[name]

    class Choice(str, metaclass=_Members):  # noqa: SLOT000 -- a member has a name too
        """One of some words."""

        @property
        def value(self) -> str:
            """The word itself."""
            return str.__str__(self)

        @classmethod
        def _missing_(cls, value: object) -> Choice:
            """Find the member of a value that is none of theirs; a subclass may know more.

            Raises:
                OptionError: there is none; the message lists what there is.
            """
            title = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in cls.__name__).strip()
            raise OptionError(f"{shown(str(value))} is no {title}: choose one of {', '.join(cls)}")

        def __repr__(self) -> str:
            return f"<{type(self).__name__}.{self.name}: {self.value!r}>"

        def __reduce__(self) -> tuple[type[Choice], tuple[str]]:
            return type(self), (self.value,)
