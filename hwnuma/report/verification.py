"""Verifications as text and JSON. Pure: everything is returned as a string or plain values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from hwnuma.model.characters import printable_text
from hwnuma.model.plan import SCHEMA
from hwnuma.model.table import table_lines
from hwnuma.processes.procfs import Pages
from hwnuma.processes.verification import Defeater, GpuAudit, Verification


def verifications_as_data(verified: Sequence[Verification]) -> dict[str, Any]:
    """Some processes as plain values."""
    return {"schema": SCHEMA, "processes": [verification_as_data(found) for found in verified]}


def verification_as_data(found: Verification) -> dict[str, Any]:
    """One process as plain values."""
    expected = found.expected
    return {
        "pid": found.pid,
        "name": found.name,
        "ok": found.ok,
        "problems": list(found.problems),
        "expected": {
            "cpuset": str(expected.cpuset),
            "nodeset": str(expected.nodeset),
            "memory": str(expected.memory),
            "source": expected.source,
        },
        "threads": len(found.threads),
        "drift": [
            {
                "tid": drift.tid,
                "name": drift.name,
                "expected": str(drift.expected),
                "found": str(drift.found),
                "inside": drift.is_inside,
            }
            for drift in found.drift
        ],
        "memory_drift": [
            {"tid": drift.tid, "name": drift.name, "expected": drift.expected, "found": drift.found}
            for drift in found.memory_drift
        ],
        "pages": None if found.pages is None else _pages_as_data(found.pages),
        "remote_bytes": found.remote_bytes,
        "notes": list(found.notes),
        "defeaters": [
            {"name": each.name, "weight": each.weight, "found": each.found, "remedy": each.remedy}
            for each in found.defeaters
        ],
    }


def _pages_as_data(pages: Pages) -> dict[str, dict[str, int]]:
    return {
        "own": {str(node): size for node, size in sorted(pages.own.items())},
        "shared": {str(node): size for node, size in sorted(pages.shared.items())},
    }


def verifications_as_text(verified: Sequence[Verification]) -> str:
    """Some processes for people, and what of this machine defeats bindings, once."""
    lines = [line for found in verified for line in _verification_lines(found)]
    return printable_text(lines + _of_machine(verified))


def _verification_lines(found: Verification) -> list[str]:
    """A line, its drifted threads, its memory, what defeats its binding."""
    expected = found.expected
    verdict = "ok" if found.ok else "; ".join(found.problems)
    lines = [
        f"process {found.pid} ({found.name}), {len(found.threads)} threads, CPUs {expected.cpuset} expected by "
        f"{expected.source}: {verdict}"
    ]
    if found.drift:
        rows = [(d.tid, d.name, d.expected, d.found, "narrower" if d.is_inside else "outside") for d in found.drift]
        lines.extend(table_lines(("thread", "name", "expected", "found", ""), rows))
    if found.memory_drift:
        policies = [(drift.tid, drift.name, drift.expected, drift.found) for drift in found.memory_drift]
        lines.extend(table_lines(("thread", "name", "policy expected", "found"), policies))
    lines += [_pages_text(found)] if found.pages is not None else []
    return [*lines, *(f"note: {note}" for note in found.notes), *_own_defeaters(found)]


def _own_defeaters(found: Verification) -> list[str]:
    """What defeats the binding of this process alone."""
    return [_defeater_text(each) for each in found.defeaters if not each.of_machine]


def _of_machine(verified: Iterable[Verification]) -> list[str]:
    """What of the machine defeats bindings, each once."""
    texts = [_defeater_text(each) for found in verified for each in found.defeaters if each.of_machine]
    return list(dict.fromkeys(texts))


def _defeater_text(defeater: Defeater) -> str:
    begin = "information" if defeater.weight == "information" else "defeated by"
    return f"{begin} {defeater.name}: {defeater.found}; remedy: {defeater.remedy}"


def _pages_text(found: Verification) -> str:
    assert found.pages is not None  # noqa: S101 -- the caller has looked
    nodes = ", ".join(f"node {node} {size / 2**20:.1f} MiB" for node, size in sorted(found.pages.own.items()))
    return f"memory: {nodes or 'none'}; {_percent(found)} not on NUMA nodes {found.expected.nodeset}"


def _percent(found: Verification) -> str:
    total = found.pages.own_total if found.pages is not None else 0
    return f"{100 * found.remote_bytes / total:.0f} %" if total else "-"


def audits_as_data(audits: Sequence[GpuAudit]) -> dict[str, Any]:
    """All GPU processes as plain values."""
    rows = []
    for audit in audits:
        row: dict[str, Any] = {
            "pid": audit.pid,
            "gpus": [{"index": gpu.index, "pci_address": gpu.pci_address, "uuid": gpu.uuid} for gpu in audit.gpus],
            "numa_nodes": str(audit.nodeset),
            "ok": audit.ok,
        }
        found = audit.verification
        rows.append({**row, "error": audit.error} if found is None else {**verification_as_data(found), **row})
    return {"schema": SCHEMA, "processes": rows}


def audits_as_text(audits: Sequence[GpuAudit]) -> str:
    """All GPU processes in one table, and what is off with each."""
    headers = ("pid", "name", "GPU", "node", "CPUs near it", "threads", "outside", "memory elsewhere", "")
    lines = table_lines(headers, [_audit_row(audit) for audit in audits])
    for audit in audits:
        if audit.verification is None:
            lines.append(f"process {audit.pid} cannot be verified: {audit.error}")
            continue
        lines += [f"process {audit.pid}: {problem}" for problem in audit.verification.problems]
        lines += [f"process {audit.pid}: {drift}" for drift in audit.verification.outside]
        lines += [f"process {audit.pid}: {note}" for note in audit.verification.notes]
        lines += [f"process {audit.pid}: {line}" for line in _own_defeaters(audit.verification)]
    return printable_text(lines + _of_machine(filter(None, (audit.verification for audit in audits))))


def _audit_row(audit: GpuAudit) -> tuple[object, ...]:
    gpus, found = ",".join(str(gpu.index) for gpu in audit.gpus), audit.verification
    if found is None:
        return audit.pid, "-", gpus, audit.nodeset or "-", "-", "-", "-", "-", "not verified"
    return (
        audit.pid, found.name, gpus, audit.nodeset, found.expected.cpuset, len(found.threads), len(found.outside),
        _percent(found), "ok" if found.ok else "off",
    )  # fmt: skip
