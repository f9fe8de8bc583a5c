"""Modes beside each other: what each gives is counted right, and the sentence chooses by its rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hwnuma import NumaOptions
from hwnuma.launch.job import Job, plan_job
from hwnuma.model.options import AffinityMode
from hwnuma.model.value import replace
from hwnuma.report.compare import Outcome, Range, advice, choice, outcome_of
from tests.conftest import TOPOLOGIES, load_machine, synthetic
from tests.test_cli import DGX, run

MODES = tuple(AffinityMode)


def outcomes(name: str, *modes: str, **options: object) -> list[Outcome]:
    """What some modes (all) give on a fixture."""
    machine = load_machine(name)
    jobs = [Job(NumaOptions(mode, **options), environment={}) for mode in modes or MODES]
    return [outcome_of(machine, plan_job(machine, job)) for job in jobs]


def test_what_a_mode_gives_is_counted() -> None:
    """A DGX A100: nodes of four caches and 16 cores, two GPUs each on four of the eight nodes."""
    node, socket, exclusive, complex_ = outcomes("dgx_a100_nps4")
    assert node == Outcome(AffinityMode.NODE, 8, 8, Range(16, 16), 2, Range(4, 4), 2, Range(1, 1), 2, 64)
    assert socket == Outcome(AffinityMode.SOCKET, 8, 8, Range(64, 64), 4, Range(16, 16), 4, Range(4, 4), 4, 0)
    assert exclusive == Outcome(AffinityMode.EXCLUSIVE, 8, 8, Range(8, 8), 1, Range(2, 2), 1, Range(1, 1), 2, 64)
    assert complex_ == Outcome(AffinityMode.CORE_COMPLEX, 8, 8, Range(4, 4), 1, Range(1, 1), 1, Range(1, 1), 2, 96)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("dgx_a100_nps4", "exclusive"),  # two caches of its own, and all of the node's cores
        ("dgx_h100", "exclusive"),  # one cache for four ranks, whatever the mode
        ("frontier_mi250x", "exclusive"),  # and core-complex would be the same
        ("gh200_x4", "node"),  # a rank a node: every mode gives the same
        ("slurm_cut_a100_pcie8", "exclusive"),
    ],
)
def test_the_choice_follows_the_rule(name: str, mode: str) -> None:
    """Cores of its own, then a cache of its own, then the most cores, then what is simplest."""
    assert choice(outcomes(name)).mode == mode


def test_a_cache_of_its_own_may_cost_half_of_the_cores_and_no_more() -> None:
    """Three ranks on a node of four caches with 4 cores: exclusive shares two of the caches."""
    machine = synthetic("pack:1 numa:1 l3:4 core:4 pu:1")
    jobs = [Job(NumaOptions(mode), gpus="none", ranks=3, environment={}) for mode in ("exclusive", "core-complex")]
    exclusive, complex_ = (outcome_of(machine, plan_job(machine, job)) for job in jobs)
    assert (exclusive.cores, exclusive.ranks_a_cache) == (Range(5, 6), 2)
    assert (complex_.cores, complex_.ranks_a_cache) == (Range(4, 4), 1)
    assert choice([exclusive, complex_]) == complex_
    assert choice(outcomes("rome_nps2_8gpu")).mode == "exclusive"  # there it would cost more


def test_the_sentence_says_why_not_the_others() -> None:
    """Modes that have the same drawback are named together, those that give the same as such."""
    assert advice(outcomes("dgx_h100")) == (
        "choose exclusive: every rank has 14 cores of its own; in node, socket and core-complex 4 ranks share each core"
    )
    assert "core-complex would give the same" in advice(outcomes("frontier_mi250x"))
    assert "node, socket" not in advice(outcomes("frontier_mi250x"))
    assert advice(outcomes("slurm_cut_a100_pcie8")).endswith("4 of 8 ranks have no place (hwnuma plan says why)")
    assert "none of these modes gives every rank cores of its own" in advice(outcomes("dgx_h100", "node", "socket"))


@pytest.mark.parametrize(
    ("worse", "drawback"),
    [
        ({"placed": 7}, "only 7 of 8 ranks have a place"),
        ({"ranks_a_core": 4}, "4 ranks share each core"),
        ({"ranks_a_cache": 2}, "2 ranks share a cache"),
        ({"cores": Range(4, 4), "unused": 32}, "a rank has 4 cores, and 32 are unused"),
        ({"nodes": Range(2, 2), "ranks_a_node": 2}, "a rank's memory is on more nodes"),
    ],
)
def test_each_drawback_has_its_words(worse: dict[str, Any], drawback: str) -> None:
    """The first that tells the mode apart from the one that is chosen."""
    best = Outcome(AffinityMode.EXCLUSIVE, 8, 8, Range(8, 8), 1, Range(1, 1), 1, Range(1, 1), 1, 0)
    other = replace(best, mode=AffinityMode.CORE_COMPLEX, **worse)
    assert advice([best, other]).endswith(f"in core-complex {drawback}")


def test_shared_rails_are_told_where_nics_are_asked_for() -> None:
    """A DGX H100 has one for each of eight ranks; with two ranks a GPU each is shared."""
    assert "NIC" not in advice(outcomes("dgx_h100"))
    assert advice(outcomes("dgx_h100", nics="auto")).endswith("; no two ranks share a NIC")
    assert advice(outcomes("dgx_h100", nics="auto", ranks_per_gpu=2)).endswith("; 2 ranks share a NIC")


def test_compare_prints_a_table_and_a_sentence() -> None:
    """In the order that is asked for; with --draw a picture of each first; no wider than 80 columns."""
    text = run("plan", "--topology", DGX, "--compare", "exclusive,core-complex").stdout
    rows = [line.split()[0] for line in text.split("\n")[3:5]]
    assert rows == ["exclusive", "core-complex"]
    assert "choose exclusive: every rank has 8 cores of its own" in text
    drawn = run("plan", "--topology", DGX, "--compare", "all", "--draw").stdout
    assert drawn.count("package 1") == 4
    assert max(map(len, drawn.split("\n"))) <= 80


def test_compare_writes_all_modes_to_one_file(tmp_path: Path) -> None:
    """One .svg or .html for all; an .xml holds one plan, and says so."""
    for kind in ("svg", "html"):
        path = f"{tmp_path}/modes.{kind}"
        assert f"wrote {path}\n" in run("plan", "--topology", DGX, "--compare", "all", "--output", path).stdout
        content = Path(path).read_text()
        assert all(f"mode {mode} on " in content for mode in MODES)
    error = run("plan", "--topology", DGX, "--compare", "all", "--output", f"{tmp_path}/a.xml", status=2).stderr
    assert "an .xml file holds one plan" in error


def test_compare_refuses_what_is_no_mode() -> None:
    """In one line that names the modes; and its exit status is 1 if a rank has no place."""
    error = run("plan", "--topology", DGX, "--compare", "exclusive,fast", status=2).stderr
    assert error.count("\n") == 1
    assert "fast" in error
    run("plan", "--topology", str(TOPOLOGIES / "slurm_cut_a100_pcie8.xml"), "--compare", "all", status=1)
