"""The affinity that others have given this process, told apart from what hwnuma has made of it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hwnuma.model.bitmap import CpuSet


class OuterAffinity:
    """Remembers what a process could run on before it was bound, so that binding it anew does not only narrow.

    A process that Ray or Dask uses again, for other GPUs, is planned from what it was started with.
    """

    def __init__(self) -> None:
        self._bound: tuple[CpuSet, CpuSet] | None = None

    def behind(self, current: CpuSet) -> CpuSet:
        """Give the affinity to plan within: the one from before, if the current one is our own work."""
        if self._bound is not None and self._bound[1] == current:
            return self._bound[0]
        return current

    def remember(self, outer: CpuSet, bound: CpuSet) -> None:
        """Note that this process, which could run on the outer CPUs, has been bound to the others."""
        self._bound = outer, bound


OUTER_AFFINITY = OuterAffinity()
"""This process's. A forked child inherits it with the affinity itself."""
