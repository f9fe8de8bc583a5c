"""Set hwnuma's answers against PyTorch's, and sort what is not equal by the reviewed table."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hwnuma.model.bitmap import CpuSet
from hwnuma.model.options import AffinityMode, NumaOptions, UnknownLocality
from hwnuma.model.plan import Binding
from hwnuma.policy.planning import make_plan
from tests.differential.machines import Compared

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TABLE = Path(__file__).parent / "differences.toml"
OCCURRENCES = Path(__file__).parent / "occurrences.txt"


@dataclass(frozen=True)
class Entry:
    """An entry of the reviewed table: what torch does, what hwnuma does, and why."""

    name: str
    modes: tuple[str, ...]
    torch: str
    hwnuma: str
    reason: str
    is_refusal: bool

    def fits(self, mode: str, torch: Mapping[str, str], ours: Binding) -> bool:
        """Whether the pair of answers is what the entry says."""
        theirs = "answers" if "cpus" in torch else f"{torch['error']}: {torch['message']}"
        return mode in self.modes and theirs.startswith(self.torch) and outcome(ours) == self.hwnuma


def outcome(binding: Binding) -> str:
    """What hwnuma made of a rank."""
    return "places" if binding.error is None else type(binding.error).__name__


def table() -> tuple[Entry, ...]:
    """The reviewed table."""
    data = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return tuple(
        Entry(
            entry["name"], tuple(entry["modes"]), entry["torch"], entry["hwnuma"], entry["reason"].strip(),
            kind == "refusal",
        )
        for kind in ("difference", "refusal")
        for entry in data[kind]
    )  # fmt: skip


@dataclass
class Comparison:
    """What came out.

    Attributes:
        counts: how many answers were equal, differ as reviewed, or were refused by both.
        occurrences: by the entry's name, where it occurs: machine, CPUs, mode, GPUs.
        unreviewed: what no entry explains, a sentence each.
        node_zero: how many of torch's node 0 answers hwnuma gives on request.
    """

    machines: int = 0
    gpus: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    occurrences: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    unreviewed: list[str] = field(default_factory=list)
    node_zero: int = 0

    @property
    def summary(self) -> str:
        """The counts as a sentence."""
        return (
            f"{self.machines} machines, {self.gpus} GPUs, {self.counts.total()} mode answers compared: "
            f"{self.counts['equal']} equal, {self.counts['both refuse']} refused by both for the same reason, "
            f"{self.counts['reviewed']} reviewed differences, {len(self.unreviewed)} others; "
            f"{self.node_zero} answers of torch for unknown localities equal with --unknown-locality node0"
        )

    def lines(self, names: frozenset[str]) -> list[str]:
        """The occurrences on these machines, as occurrences.txt has them."""
        found = []
        for entry, places in self.occurrences.items():
            found += [f"{entry} | {place}" for place in places if place.split(" | ")[0] in names]
        return sorted(found)


def compare(machines: Sequence[Compared], answers: Mapping[str, Any]) -> Comparison:
    """Compare every machine, cut, mode and GPU."""
    result, entries = Comparison(), table()
    for compared in machines:
        if not compared.is_variant:
            result.machines += 1
            result.gpus += len(compared.addresses)
        for cut_name, cut in compared.cuts().items():
            for mode, torch in answers[compared.name][str(cut)].items():
                where = f"{compared.name} | {cut_name} | {mode}"
                _compare_plan(result, entries, compared, cut, mode, torch, where)
    return result


def _compare_plan(
    result: Comparison, entries: Sequence[Entry], compared: Compared, cut: CpuSet, mode: str,
    torch: Sequence[Mapping[str, str]], where: str,
) -> None:  # fmt: skip
    machine = compared.machine.narrowed(cut)
    plan = make_plan(machine, compared.gpus, NumaOptions(AffinityMode(mode)))
    ranks_of: dict[str, list[int]] = defaultdict(list)
    for binding, theirs in zip(plan, torch, strict=True):
        if binding.error is None and str(binding.cpuset) == theirs.get("cpus"):
            result.counts["equal"] += 1
            continue
        entry = next((entry for entry in entries if entry.fits(mode, theirs, binding)), None)
        if entry is None:
            ours = str(binding.cpuset) if binding.error is None else f"{outcome(binding)}: {binding.error}"
            result.unreviewed.append(f"{where} | GPU {binding.local_rank}: torch {dict(theirs)}, hwnuma {ours}")
            continue
        result.counts["both refuse" if entry.is_refusal else "reviewed"] += 1
        ranks_of[entry.name].append(binding.local_rank)
    for name, ranks in ranks_of.items():
        result.occurrences[name].append(f"{where} | {CpuSet(ranks)}")
    if ranks_of.keys() & {"locality unknown"}:
        _compare_with_node_zero(result, compared, cut, mode, torch, where)


def _compare_with_node_zero(
    result: Comparison, compared: Compared, cut: CpuSet, mode: str, torch: Sequence[Mapping[str, str]], where: str
) -> None:
    """With torch's rule for unknown localities, the answers are torch's."""
    options = NumaOptions(AffinityMode(mode), unknown_locality=UnknownLocality.NODE_ZERO)
    plan = make_plan(compared.machine.narrowed(cut), compared.gpus, options)
    for binding, theirs in zip(plan, torch, strict=True):
        if "cpus" in theirs:
            result.node_zero += str(binding.cpuset) == theirs["cpus"]
            if str(binding.cpuset) != theirs["cpus"]:
                result.unreviewed.append(
                    f"{where} | GPU {binding.local_rank} with --unknown-locality node0: torch {theirs['cpus']}, "
                    f"hwnuma {binding.cpuset}"
                )


def saved_occurrences() -> Iterator[str]:
    """The reviewed occurrences."""
    for line in OCCURRENCES.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            yield line
