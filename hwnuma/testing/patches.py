"""Put functions in the place of others for a while, wherever modules hold them by name, and put all back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any


class Patches:
    """What was replaced, and by what."""

    def __init__(self) -> None:
        self._functions: list[tuple[Any, Any]] = []
        self._undo: list[Callable[[], object]] = []
        self._everywhere = False

    def functions(self, replacements: dict[Any, Any], *, everywhere: bool = False) -> None:
        """Replace functions in every module of hwnuma's that has them; or in all modules, as those of `os`."""
        self._everywhere |= everywhere
        self._functions += replacements.items()
        _exchange(dict(_by_identity(replacements.items())), everywhere=everywhere)

    def attribute(self, owner: type | ModuleType, name: str, value: object) -> None:
        """Replace an attribute of a class or a module."""
        former = vars(owner)[name]
        self._undo.append(lambda: setattr(owner, name, former))
        setattr(owner, name, value)

    def afterwards(self, undo: Callable[[], object]) -> None:
        """Have something else done when all is put back."""
        self._undo.append(undo)

    def undo(self) -> None:
        """Put all back, the last first; a module that was imported meanwhile has taken what was put in, too."""
        while self._undo:
            self._undo.pop()()
        back = ((new, old) for old, new in self._functions)
        _exchange(dict(_by_identity(back)), everywhere=self._everywhere)
        self._functions = []


def _by_identity(pairs: Any) -> Iterator[tuple[int, tuple[Any, Any]]]:
    return ((id(old), (old, new)) for old, new in pairs)


def _exchange(table: dict[int, tuple[Any, Any]], *, everywhere: bool) -> None:
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("hwnuma.testing") or not (everywhere or module_name.startswith("hwnuma")):
            continue  # what stands in for a function may have to call it
        # Its dictionary, and not its attributes: to ask a module that imports lazily for those would import them.
        names = getattr(module, "__dict__", None)
        if isinstance(names, dict):
            names.update({name: table[id(value)][1] for name, value in list(names.items()) if id(value) in table})
