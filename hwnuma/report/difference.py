"""What differs between two machines or two plans, as JSON and as text for people. Pure."""

from __future__ import annotations

from typing import Any

from hwnuma.captures.changed_places import Change, ranks_text, sentences
from hwnuma.model.characters import excerpt, printable_text
from hwnuma.model.table import table_lines
from hwnuma.model.value import Value

SCHEMA = 1

MACHINES, PLANS = "machines", "plans"


class Side(Value):
    """One of the two that are compared: what to call it, and the digest of its machine; None if a plan has none."""

    source: str
    machine: str | None


class Difference(Value):
    """What differs.

    Attributes:
        kind: `MACHINES` or `PLANS`.
        one: the first.
        other: the second.
        differences: a clause each; of plans, all but the ranks' places.
        plans: what becomes of the ranks' places, in each mode.
    """

    kind: str
    one: Side
    other: Side
    differences: tuple[str, ...]
    plans: tuple[Change, ...]

    @property
    def is_same(self) -> bool:
        """Whether nothing differs."""
        return not self.differences and all(change.is_same for change in self.plans)

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain values: what ``hwnuma diff --format json`` prints. Keys may be added to schema 1.

        ::

            {"schema": 1,
             "kind": "machines" or "plans",
             "a": {"source": "a.xml", "machine": its digest, or null where a plan tells none},
             "b": likewise,
             "same": true or false,
             "differences": [a clause each, such as "8 → 2 NUMA nodes (another NPS or SNC setting)"],
             "plans": [{"mode": "exclusive",
                        "same": true or false,
                        "ranks": [those whose place is another],
                        "errors": [why A cannot be planned, or null; why B cannot, or null],
                        "changes": [{"local_rank": 3, "a": its row in A's plan or null, "b": likewise}]}]}

        ``plans`` has one member for each mode that was asked for, or all four; of two plans, the one that A is in. A
        row is one of a plan's ``bindings`` (`hwnuma.model.contract.BindingDict`).
        """
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "a": {"source": self.one.source, "machine": self.one.machine},
            "b": {"source": self.other.source, "machine": self.other.machine},
            "same": self.is_same,
            "differences": list(self.differences),
            "plans": [change.as_dict(rows=True) for change in self.plans],
        }


def difference_as_text(found: Difference) -> str:
    """What differs, a line each; with a table of the ranks' places where they are compared in one mode alone.

    Nothing, where nothing differs, as diff(1) has it.
    """
    if found.is_same:
        return ""
    lines = [f"A: {found.one.source}", f"B: {found.other.source}", "", *found.differences]
    lines += [f"plans: {sentence}" for sentence in sentences(found.plans)]
    if all(change.is_same for change in found.plans):
        lines += _same(found.plans)
    if len(found.plans) == 1 and found.plans[0].changed:
        lines += ["", *_table(found.plans[0])]
    return printable_text(lines)


def _same(plans: tuple[Change, ...]) -> list[str]:
    """Say that nothing changes, or why that is not known."""
    errors = [change.errors[0] for change in plans if change.errors[0] is not None]
    if errors:
        return [f"plans: not compared ({excerpt(errors[0], 300)})"]
    modes = "in every mode" if len(plans) > 1 else f"in {plans[0].mode}"
    return [f"plans: every rank has the same place {modes}"] if plans else []


def _table(change: Change) -> list[str]:
    """The ranks' places, those with the same two in one row."""
    ranks: dict[tuple[str, str, str, str], list[int]] = {}
    for rank, one, other in change.changed:
        ranks.setdefault((*_place(one), *_place(other)), []).append(rank)
    headers = ("rank", "A: CPUs", "A: nodes", "B: CPUs", "B: nodes")
    return table_lines(headers, [(ranks_text(those), *places) for places, those in ranks.items()])


def _place(row: Any) -> tuple[str, str]:
    if row is None:
        return "no such rank", "-"
    if "error" in row:
        return row["error"]["type"], "-"
    return row.get("cpuset") or "-", row.get("nodeset") or "-"
