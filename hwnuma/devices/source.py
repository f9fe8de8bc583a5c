"""What a source of GPUs is: NVML, a topology, a test's own."""

from __future__ import annotations

from typing import Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hwnuma.model.gpu import Gpu


class GpuSource(Protocol):
    """Something that can tell which GPUs there are: NVML, a topology, a test."""

    @property
    def name(self) -> str:
        """What the source is called in messages and in a plan."""
        ...

    def gpus(self) -> tuple[Gpu, ...]:
        """All GPUs, in index order.

        Raises:
            GpuError: the source does not work here; the message says why.
        """
        ...
