"""Which ranks get another place in another plan, on the plans' plain values: what `Plan.as_dict` gives. Pure."""

from __future__ import annotations

from hwnuma.model.characters import excerpt
from hwnuma.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from hwnuma.model.contract import BindingDict, PlanDict


# How much of an error a clause repeats.
_SHOWN = 300


class Planned(Value):
    """A machine's plan in one mode, or why there is none.

    Attributes:
        mode: the affinity mode.
        rows: a plan's ``bindings``.
        error: why nothing could be planned, a sentence; None if it could.
    """

    mode: str
    rows: tuple[BindingDict, ...] = ()
    error: str | None = None

    @classmethod
    def of(cls, plan: PlanDict) -> Planned:
        """Make it of a plan's plain values."""
        return cls(plan["mode"], tuple(plan["bindings"]))


class Change(Value):
    """What becomes of a plan in one mode.

    Attributes:
        mode: the affinity mode.
        changed: of each rank whose place is another its number, its row before and its row after; None where it is not.
        errors: why there is no plan before, and after; None where there is one.
    """

    mode: str
    changed: tuple[tuple[int, BindingDict | None, BindingDict | None], ...] = ()
    errors: tuple[str | None, str | None] = (None, None)

    @property
    def is_same(self) -> bool:
        """Whether every rank has the place that it had; where neither can be planned, that is the same too."""
        return not self.changed and (self.errors[0] is None) == (self.errors[1] is None)

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks whose place is another."""
        return tuple(rank for rank, _, _ in self.changed)

    def as_dict(self, *, rows: bool = False) -> dict[str, Any]:
        """Give it as plain values; with the rows of plans before and after, if they are asked for."""
        made: dict[str, Any] = {
            "mode": self.mode,
            "same": self.is_same,
            "ranks": list(self.ranks),
            "errors": list(self.errors),
        }
        if rows:
            made["changes"] = [{"local_rank": rank, "a": one, "b": other} for rank, one, other in self.changed]
        return made


def change_of(before: Planned, after: Planned) -> Change:
    """What becomes of a plan."""
    one, other = ({row["local_rank"]: row for row in planned.rows} for planned in (before, after))
    if before.error is not None or after.error is not None:
        return Change(before.mode, (), (before.error, after.error))
    changed = tuple(
        (rank, one.get(rank), other.get(rank))
        for rank in sorted(one.keys() | other.keys())
        if _place(one.get(rank)) != _place(other.get(rank))
    )
    return Change(before.mode, changed)


def _place(row: Mapping[str, Any] | None) -> object:
    """What makes a place: CPUs, memory, GPUs and NICs by number or name; not what they are called elsewhere."""
    if row is None:
        return None
    gpus = [gpu["index"] for gpu in row.get("gpus", ())]
    nics = [(nic["name"], nic["port"]) for nic in row.get("nics", ())]
    error = row["error"]["type"] if "error" in row else None
    return gpus, nics, error, row.get("cpuset"), row.get("nodeset"), row.get("memory")


def sentences(changes: Sequence[Change]) -> list[str]:
    """Say in which modes which ranks' places are others, modes with the same ranks in one clause."""
    alike: dict[tuple[object, ...], list[Change]] = {}
    for change in changes:
        if not change.is_same:
            alike.setdefault((change.ranks, change.errors), []).append(change)
    said = []
    for (ranks, errors), those in alike.items():
        modes = _modes([change.mode for change in those], len(changes))
        said.append(f"{_what(ranks, errors)} {modes}")  # type: ignore[arg-type]
    return said


def _what(ranks: Sequence[int], errors: tuple[str | None, str | None]) -> str:
    if errors[1] is not None:
        return f"cannot be planned any more ({excerpt(errors[1], _SHOWN)})"
    if errors[0] is not None:
        return f"can be planned, and the other cannot ({excerpt(errors[0], _SHOWN)})"
    one = len(ranks) == 1
    return f"{'rank' if one else 'ranks'} {ranks_text(ranks)} {'is' if one else 'are'} placed otherwise"


def _modes(modes: Sequence[str], all_of_them: int) -> str:
    if len(modes) == all_of_them > 1:
        return "in every mode"
    return f"in {' and '.join(filter(None, (', '.join(modes[:-1]), modes[-1])))}"


def ranks_text(ranks: Iterable[int]) -> str:
    """Ranks as a list with ranges."""
    ranges: list[list[int]] = []
    for rank in ranks:
        if ranges and ranges[-1][1] == rank - 1:
            ranges[-1][1] = rank
        else:
            ranges.append([rank, rank])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
