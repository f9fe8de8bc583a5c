"""The benchmarks measure what they say and report what they found. No test here looks at how long anything takes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import __main__ as program
from benchmarks import counts, library, peer, results, timing
from benchmarks.goals import LINES, ROWS, Goal, Line
from benchmarks.results import Result
from benchmarks.settings import Settings, Skipped, environment, tool
from benchmarks.timing import CommandFailedError, Figure
from tests.conftest import ROOT

MACHINE = {"machine": "Some Processor, 2 CPUs to use", "Python": "CPython 3.11.2"}
SLOW, FAST = Line("a.slow", "slow thing", goal=Goal(2.0)), Line("a.fast", "fast thing", "ms", Goal(10, at_least=True))
FOUND = [
    Result(SLOW, Figure(7.25, 7.0, 7.5, 30)),
    Result(FAST, Figure(12.0, 11.0, 13.0, 30)),
    Result(Line("a.peer", "peer"), None, "it is not installed"),
]


def _cells(text: str) -> dict[str, list[str]]:
    """The table's cells after the first, by the first; without its headings and the rule below them."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in rows[2:]}


# ---- goals ---------------------------------------------------------------------------------------------------


def test_each_row_has_what_measures_it() -> None:
    """What the table names can be measured, and nothing is measured that it does not name."""
    assert set(program.MEASURES) == set(ROWS)
    assert len({line.key for line in LINES}) == len({line.what for line in LINES}) == len(LINES)


@pytest.mark.parametrize(
    ("goal", "value", "met"),
    [
        (Goal(2.0), 2.0, True),
        (Goal(2.0), 2.01, False),
        (Goal(2.0, at_least=True), 2.0, True),
        (Goal(2.0, at_least=True), 1.99, False),
        (Goal(1.15, least=0.85), 0.85, True),
        (Goal(1.15, least=0.85), 1.15, True),
        (Goal(1.15, least=0.85), 0.84, False),
        (Goal(1.15, least=0.85), 1.16, False),
    ],
)
def test_a_goal_is_met_up_to_its_limit(goal: Goal, value: float, met: bool) -> None:
    """At most and at least include the limit itself."""
    assert goal.met(value) is met


# ---- timing --------------------------------------------------------------------------------------------------


def test_works_take_turns_and_the_first_round_does_not_count() -> None:
    """A B A B A B for two rounds: the first one fills caches."""
    order: list[str] = []

    def work(name: str) -> Callable[[], float]:
        def timed() -> float:
            order.append(name)
            return float(len(order))

        return timed

    assert timing.in_turn({"A": work("A"), "B": work("B")}, 2) == {"A": [3.0, 5.0], "B": [4.0, 6.0]}
    assert order == ["A", "B", "A", "B", "A", "B"]


def test_ratios_are_those_of_the_same_round() -> None:
    """A round in which everything took twice as long changes nothing."""
    assert timing.ratio([3.0, 6.0, 3.0], [1.0, 2.0, 1.0]) == Figure(3.0, 3.0, 3.0, 3)
    assert timing.difference([0.005, 0.007, 0.009], [0.001, 0.001, 0.001]) == Figure(
        pytest.approx(6.0), pytest.approx(5.0), pytest.approx(7.0), 3
    )


def test_a_call_is_prepared_each_time_it_is_made() -> None:
    """Nothing that an earlier call has kept makes a later one look quick."""
    prepared, called = [], []

    def prepare() -> Callable[[], object]:
        prepared.append(object())
        return lambda: called.append(prepared[-1])

    assert timing.calls(prepare)() > 0
    assert len(set(map(id, called))) == len(called) == len(prepared) > 2


def test_copies_of_a_command_are_all_started_and_waited_for(tmp_path: Path) -> None:
    """Eight ranks at once are eight processes, and all have ended when the time is taken."""
    shell = (tool("sh"), "-c", 'echo done >"$FOLDER/$$"')
    assert timing.command(shell, environment(FOLDER=str(tmp_path)), copies=8)() > 0
    assert [path.read_text() for path in tmp_path.iterdir()] == ["done\n"] * 8


def test_a_command_that_fails_is_no_figure() -> None:
    """A command that ends early is quick and wrong: its row says so instead."""
    with pytest.raises(CommandFailedError, match="^false: ended with status 1; what it said is on standard error$"):
        timing.command((tool("false"),), environment())()


# ---- peers ---------------------------------------------------------------------------------------------------


def test_a_peer_does_its_work_when_it_is_told_to() -> None:
    """It says what it is, and then the seconds of each work that is asked for."""
    code = "from benchmarks.peers import serve; serve('1.5', {'two': lambda: 2.0, 'three': lambda: 3.0})"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, stdin=pipe, stdout=pipe) as process:
        other = peer.Peer(process, "other")
        assert other.version.startswith("1.5 (Python 3.")
        assert [other.work("three")(), other.work("two")()] == [3.0, 2.0]
        with pytest.raises(Skipped, match="has no four"):
            other.work("four")
        assert process.stdin is not None
        process.stdin.close()


def test_a_peer_that_ends_is_an_error() -> None:
    """It does not pass for one that took no time."""
    code = 'print(\'{"version": "1", "works": ["a"]}\')'
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], text=True, stdin=pipe, stdout=pipe) as process:
        other = peer.Peer(process, "other")
        process.wait()
        with pytest.raises(CommandFailedError, match="other has ended with status 0"):
            other.work("a")()


def test_a_row_whose_peer_is_missing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its lines is there, with the reason instead of a figure."""
    monkeypatch.setattr(library, "peer", lambda package, *rest: peer.peer(f"no_such_{package}", *rest))
    (result,) = program.measure("load", Settings(rounds=1))
    assert result.figure is None
    assert result.met is None
    assert result.skipped.startswith("no_such_pyhwloc is installed neither for this Python")


# ---- results -------------------------------------------------------------------------------------------------


def test_the_table_says_what_is_met_and_what_is_skipped() -> None:
    """A line: its median, the quartiles, the goal, and whether it is met; or why there is no figure."""
    times = "\N{MULTIPLICATION SIGN}"
    assert _cells(results.table(FOUND, "github")) == {
        "slow thing": [f"7.25 {times}", "7 to 7.5", f"≤ 2 {times}", "not met"],
        "fast thing": ["12 ms", "11 to 13", "≥ 10 ms", "met"],
        "peer": ["-", "skipped: it is not installed", "", ""],
    }


def test_json_gives_the_results_back() -> None:
    """A page can be made of an earlier run."""
    again, machine = results.from_data(json.loads(results.dumps(FOUND, MACHINE)))
    assert (again, machine) == (FOUND, MACHINE)


def test_json_of_another_schema_is_refused() -> None:
    """Its keys may mean something else."""
    with pytest.raises(ValueError, match="schema 99"):
        results.from_data({"schema": 99})


def test_the_page_has_the_table_and_the_machine() -> None:
    """Whoever reads a figure can see where it comes from."""
    page = results.page(FOUND, MACHINE)
    assert results.table(FOUND, "github") in page
    assert all(f"- {name}: {value}" in page for name, value in MACHINE.items())


def test_the_page_of_the_documentation_has_all_lines() -> None:
    """It was written after the last line was added."""
    cells = _cells((ROOT / "docs" / "explanation" / "benchmarks.md").read_text(encoding="utf-8"))
    assert {line.what for line in LINES} <= cells.keys()


@pytest.mark.parametrize(("value", "text"), [(0.1234, "0.123"), (7.0, "7"), (12.34, "12.3"), (8530.4, "8530")])
def test_a_figure_has_three_digits(value: float, text: str) -> None:
    """More would be noise."""
    assert results.number(value) == text


@pytest.mark.slow  # it measures
def test_one_command_measures_prints_and_writes(tmp_path: Path) -> None:
    """A real row, from the command line to the page; nothing of the machine's paths is in what may be published."""
    command = ("-m", "benchmarks", "--rounds", "1", "--only", "import", "--json", f"{tmp_path}/run.json")
    done = subprocess.run(
        [sys.executable, *command, "--page", f"{tmp_path}/page.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    run = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert [row["row"] for row in run["rows"]] == [line.key for line in LINES if line.row == "import"]
    modules = {row["row"]: row["figure"]["median"] for row in run["rows"] if row["unit"] == "modules"}
    assert modules["import.bind modules"] > modules["import.modules"] >= 1
    assert results.header(run["machine"]) in done.stdout
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "`from hwnuma import bind`" in page
    assert str(ROOT) not in page
    assert sys.prefix not in page


# ---- counts --------------------------------------------------------------------------------------------------


def test_each_count_has_a_ceiling_and_no_ceiling_is_left_over() -> None:
    """A way into hwnuma that is counted is held, and what is not counted any more has no ceiling."""
    counted = {each.name for each in counts.COUNTED} - {counts.BARE}
    assert counts.read_ceilings().keys() == counted


def test_what_is_above_its_ceiling_gets_a_line() -> None:
    """At the ceiling is not above it; without a ceiling nothing holds."""
    assert counts.exceeded({"a": 2.0, "b": 2.11, "c": 1.0}, {"a": 2.0, "b": 2.0}) == [
        "b: 2.11 x bare Python, above its ceiling of 2 x",
        "c: no ceiling in ceilings.toml: python -m benchmarks counts --update",
    ]


def test_callgrinds_parts_are_added_up() -> None:
    """A command that becomes another one has a part for each execve that it tries."""
    assert counts.totals(["summary: 7\ntotals: 5\n", "fn=x\n1 2\ntotals: 37\n", ""]) == 42


def test_a_higher_count_fails_the_check_and_an_update_lets_it_pass(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line a ceiling that is exceeded, and 1; with the ceilings written anew, 0."""
    monkeypatch.setattr(counts, "CEILINGS", tmp_path / "ceilings.toml")
    monkeypatch.setattr(counts, "has_import_hook", lambda: False)
    now = {counts.BARE: 40_000_000, "exec, handed over": 48_000_000}
    monkeypatch.setattr(counts, "count_all", lambda: now)
    assert counts.main(["--update"]) == 0
    assert counts.main(["--check"]) == 0
    now["exec, handed over"] = 60_000_000
    capsys.readouterr()
    assert counts.main(["--check"]) == 1
    printed = capsys.readouterr()
    assert printed.err == "exec, handed over: 1.50 x bare Python, above its ceiling of 1.24 x\n"
    assert "60.0 M    1.50 x  exec, handed over" in printed.out


def test_without_valgrind_nothing_is_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line that says what is missing, and no traceback."""

    def missing(name: str) -> str:
        raise Skipped(f"{name} is not installed")

    monkeypatch.setattr(counts, "tool", missing)
    with pytest.raises(SystemExit, match="2"):
        counts.main([])
    assert capsys.readouterr().err.endswith("error: valgrind is not installed\n")


def test_ratios_to_a_python_with_an_import_hook_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bare Python would be slower too, and every ceiling too high."""
    monkeypatch.setattr(counts, "has_import_hook", lambda: True)
    with pytest.raises(SystemExit, match="2"):
        counts.main(["--check"])
