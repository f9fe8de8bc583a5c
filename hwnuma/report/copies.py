"""Copies to and from GPUs, as ``hwnuma bench`` measured them, as a table. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hwnuma.model.table import table_lines

_PLACES = ("near", "far", "unbound")
_WAYS = {"host_to_device": "to it", "device_to_host": "from it"}

_HEADERS = (
    "GPU",
    "copies",
    *(f"{place},\nalone" for place in _PLACES),
    *(f"{place},\nall at once" for place in _PLACES),
)


def copies_as_lines(gpus: Iterable[Mapping[str, Any]]) -> list[str]:
    """A table in GB/s; no lines if nothing was measured.

    Args:
        gpus: in the form that JSON has.
    """
    rows = [_row(gpu, way) for gpu in gpus if gpu["copies"] for way in _WAYS]
    return [*table_lines(_HEADERS, rows), ""] if rows else []


def _row(gpu: Mapping[str, Any], way: str) -> tuple[object, ...]:
    told = {(each["place"], each["at_once"]): each for each in gpu["copies"] if each["direction"] == way}
    cells = (_cell(told.get((place, at_once))) for at_once in (False, True) for place in _PLACES)
    return (gpu["gpu"]["index"], _WAYS[way], *cells)


def _cell(copy: Mapping[str, Any] | None) -> str:
    if copy is None:
        return "-"
    rate = copy["bytes_per_second"]
    if copy["place"] == "unbound":
        return f"{rate['low'] / 1e9:.3g}-{rate['high'] / 1e9:.3g}"
    return f"{rate['median'] / 1e9:.3g}"
