"""Which GPUs a job sees. For now all of them: the drivers' variables are read in the next step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hwnuma.gpus import Gpu


@dataclass(frozen=True, slots=True)
class Visible:
    """The visible GPUs in the order of their ranks, and which variable said so."""

    gpus: tuple[Gpu, ...]
    warnings: tuple[str, ...] = ()
    variable: str | None = None
    value: str | None = None


def visible_gpus(
    gpus: Sequence[Gpu],
    environment: Mapping[str, str],  # noqa: ARG001
    vendor: str = "nvidia",  # noqa: ARG001
    strict: bool = False,  # noqa: ARG001
) -> Visible:
    """All GPUs, in index order."""
    return Visible(tuple(gpus))
