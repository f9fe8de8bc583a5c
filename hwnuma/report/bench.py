"""What ``hwnuma bench`` measured, as data and as tables. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hwnuma.model.characters import printable_text
from hwnuma.model.measured import KINDS, Bandwidth, Estimate, Firmware, Latency, Measured, Placement
from hwnuma.model.numbers import size_text
from hwnuma.model.plan import SCHEMA
from hwnuma.model.table import table_lines
from hwnuma.report.copies import copies_as_lines
from hwnuma.report.layout import wrapped


def bench_as_data(found: Measured) -> dict[str, Any]:
    """The figures as plain values, by the contract that ``hwnuma bench --format json`` keeps.

    Keys of the whole: ``schema``, ``topology`` (which machine), ``bandwidth``, ``latency``, ``gpus``, ``verdict`` (a
    sentence each), ``notes`` (likewise), ``placement``, ``firmware``, ``buffer_bytes`` (of each array and ring),
    ``cache_bytes`` (of the last-level caches over one node's CPUs; null: not known), ``cpus`` (by node, those that
    measured), ``nontemporal_stores`` (whether writes went past the caches), ``huge_pages`` (whether they were asked
    for, for the bandwidth), ``rounds`` (how often each was measured), ``seconds`` (the length of the run),
    ``interrupted``.

    A row of ``bandwidth``: ``cpu_node``, ``memory_node``, ``kind`` (read, write, copy, triad), ``threads`` (one each of
    so many cores), ``bytes_per_second``. A row of ``latency``: ``cpu_node``, ``memory_node``, ``loaded`` (whether the
    node's other cores read the same memory), ``huge_pages``, ``seconds``. Both quantities: ``median``, ``low`` and
    ``high`` (the interval in which the true median lies), ``best``, ``samples``, ``confidence`` (of the interval).

    A row of ``placement``: ``memory_node``, ``bytes_by_node`` (where the kernel says that the pages are; null: it does
    not tell), ``huge_bytes`` (how many are in huge pages), ``total``, ``looks`` (how often it was asked), ``proven``
    (whether every page was on the node). A row of ``firmware``: ``cpu_node``, ``memory_node``, ``bytes_per_second``,
    ``seconds``, ``distance``; null is what is not told.
    """
    return {
        "schema": SCHEMA,
        "topology": found.source,
        "bandwidth": [_bandwidth_as_data(row) for row in found.bandwidth],
        "latency": [_latency_as_data(row) for row in found.latency],
        "gpus": list(found.gpus),
        "verdict": list(found.verdict),
        "notes": list(found.notes),
        "placement": [_placement_as_data(each) for each in found.placements],
        "firmware": [{name: getattr(row, name) for name in row._fields} for row in found.firmware],
        "buffer_bytes": found.buffer_bytes,
        "cache_bytes": found.cache_bytes or None,
        "cpus": {str(node): str(cpus) for node, cpus in found.cpus},
        "nontemporal_stores": found.nontemporal,
        "huge_pages": found.huge_pages,
        "rounds": found.rounds,
        "seconds": found.seconds,
        "interrupted": found.interrupted,
    }


def _estimate_as_data(found: Estimate) -> dict[str, Any]:
    return {name: getattr(found, name) for name in ("median", "low", "high", "best", "samples", "confidence")}


def _bandwidth_as_data(row: Bandwidth) -> dict[str, Any]:
    about = {name: getattr(row, name) for name in ("cpu_node", "memory_node", "kind", "threads")}
    return {**about, "bytes_per_second": _estimate_as_data(row.bytes_per_second)}


def _latency_as_data(row: Latency) -> dict[str, Any]:
    about = {name: getattr(row, name) for name in ("cpu_node", "memory_node", "loaded", "huge_pages")}
    return {**about, "seconds": _estimate_as_data(row.seconds)}


def _placement_as_data(found: Placement) -> dict[str, Any]:
    where = found.bytes_by_node
    return {
        "memory_node": found.memory_node,
        "bytes_by_node": None if where is None else {str(node): size for node, size in where},
        "huge_bytes": found.huge_bytes,
        "total": found.total,
        "looks": found.looks,
        "proven": found.is_proven,
    }


# ---- for people ----------------------------------------------------------------------------------------------


def bench_as_text(found: Measured, width: int = 80) -> str:
    """The figures for people: two tables, how they were measured, and the verdict.

    Args:
        found: what was measured.
        width: columns of the terminal.
    """
    lines = [
        *table_lines(("CPUs of\nnode", "memory\nof node", "cores", "GB/s", *KINDS), _bandwidth_rows(found)),
        "",
        *table_lines(_LATENCY_HEADERS, _latency_rows(found)),
        "",
        *copies_as_lines(found.gpus),
    ]
    for sentence in _about(found):
        lines += wrapped(sentence, width)
    for sentence in found.notes:
        lines += wrapped(f"note: {sentence}", width)
    lines.append("")
    for sentence in found.verdict:
        lines += wrapped(sentence, width)
    return printable_text(lines)


_LATENCY_HEADERS = (
    "CPUs of\nnode", "memory\nof node", "ns", "idle", "idle,\nsmall pages", "others\nread", "firmware", "distance"
)  # fmt: skip


def _bandwidth_rows(found: Measured) -> Iterator[tuple[object, ...]]:
    cells = {(row.cpu_node, row.memory_node, row.threads, row.kind): row.bytes_per_second for row in found.bandwidth}
    said = {(row.cpu_node, row.memory_node): row for row in found.firmware}
    for key in dict.fromkeys(key[:3] for key in cells):
        each = [cells[(*key, kind)] for kind in KINDS]
        yield (*key, "median", *(around(one, 1e-9) for one in each))
        yield ("", "", "", "best", *(f"{one.best / 1e9:.3g}" for one in each))
        firmware = said.get(key[:2])
        if firmware is not None and firmware.bytes_per_second is not None and key[2] > 1:
            yield ("", "", "", "firmware", f"{firmware.bytes_per_second / 1e9:.3g}")


def _latency_rows(found: Measured) -> Iterator[tuple[object, ...]]:
    cells = {(row.cpu_node, row.memory_node, row.loaded, row.huge_pages): row.seconds for row in found.latency}
    said = {(row.cpu_node, row.memory_node): row for row in found.firmware}
    for key in dict.fromkeys(key[:2] for key in cells):
        each = [cells.get((*key, *state)) for state in ((False, True), (False, False), (True, True))]
        told = said.get(key, Firmware(*key, None, None, None))
        firmware = "-" if told.seconds is None else f"{told.seconds * 1e9:.3g}"
        yield (
            *key,
            "median",
            *(_maybe(one) for one in each),
            firmware,
            "-" if told.distance is None else told.distance,
        )
        yield ("", "", "best", *("-" if one is None else f"{one.best * 1e9:.3g}" for one in each))


def _maybe(found: Estimate | None) -> str:
    return "-" if found is None else around(found, 1e9)


def around(found: Estimate, unit: float) -> str:
    """A median for people, and how far the further end of its interval is from it."""
    off = max(found.high - found.median, found.median - found.low) / found.median
    return f"{found.median * unit:.3g} ±{100 * off:.2g} %" if off >= _LEAST_SHOWN else f"{found.median * unit:.3g}"


# A thousandth: less than three digits show.
_LEAST_SHOWN = 0.001


def _about(found: Measured) -> Iterator[str]:
    cores = "; ".join(f"node {node}: CPUs {cpus}" for node, cpus in found.cpus)
    yield (
        f"{found.rounds} rounds in {found.seconds:.1f} s on a CPU of each core ({cores}); buffers of "
        f"{size_text(found.buffer_bytes)}, last-level caches of "
        f"{size_text(found.cache_bytes) if found.cache_bytes else 'a size that is not known'}; non-temporal stores: "
        f"{'yes' if found.nontemporal else 'no'}; huge pages: {'on' if found.huge_pages else 'off'}"
    )
    for each in found.placements:
        yield f"memory of node {each.memory_node}: {_placement_text(each)}"


def _placement_text(found: Placement) -> str:
    if found.bytes_by_node is None:
        return "where its pages are cannot be seen: there is no readable /proc/self/numa_maps here"
    huge = "" if found.huge_bytes is None else f"; {size_text(found.huge_bytes)} of it in huge pages"
    if found.is_proven:
        return f"all pages of {size_text(found.total)} were there, each of the {found.looks} times one looked{huge}"
    where = ", ".join(f"{size_text(size)} on node {node}" for node, size in found.bytes_by_node)
    return f"not all pages of {size_text(found.total)} were there, but {where}: something moves pages{huge}"
