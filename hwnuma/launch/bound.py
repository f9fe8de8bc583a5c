"""Bound: a function that binds its process before it does anything, for whoever starts workers as functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar

from hwnuma.model.plan import Binding

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class Bound(Generic[_Parameters, _Result]):
    """A function that binds its process first. How, each integration's own Bound says.

    Picklable if the function is, so the function itself must be reachable by its name: write ``Bound(train)`` where it
    is handed over, not as a decorator. It has the function's name, documentation and signature: launchers log the name,
    torch insists on one, which a functools.partial lacks, and Ray Train looks whether the function takes an argument.

    Attributes:
        function: what the worker shall do.
    """

    def __init__(
        self,
        function: Callable[_Parameters, _Result],
        bind_first: Callable[..., Binding],
        how: Mapping[str, Any] | None = None,
        *,
        rank_is_first_argument: bool = False,
    ) -> None:
        """Say what to call, and how to bind before.

        Args:
            function: what the worker shall do.
            bind_first: binds the process; picklable if this is to be.
            how: its arguments. (A functools.partial of both would not compare equal to its own copy.)
            rank_is_first_argument: hand it the call's first argument as ``local_rank``.
        """
        self.function = function
        self._bind_first, self._how = bind_first, dict(how or {})
        self._rank_is_first_argument = rank_is_first_argument
        self._look_like_the_function()

    def __call__(self, *arguments: _Parameters.args, **keywords: _Parameters.kwargs) -> _Result:
        """Bind this process, then call the function.

        Raises:
            HwnumaError: the process cannot be placed or bound; the function was not called.
        """
        if self._rank_is_first_argument:
            self._bind_first(**self._how, local_rank=arguments[0])
        else:
            self._bind_first(**self._how)
        return self.function(*arguments, **keywords)

    def _look_like_the_function(self) -> None:
        update_wrapper(self, self.function, updated=())
        self.__name__: str = getattr(self.function, "__name__", type(self.function).__name__)
        self.__qualname__: str = getattr(self.function, "__qualname__", self.__name__)

    def __getstate__(self) -> dict[str, Any]:
        # A function pickles by its name; what update_wrapper has taken from it, such as annotations, may not.
        return {name: value for name, value in vars(self).items() if not name.startswith("__")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._look_like_the_function()
