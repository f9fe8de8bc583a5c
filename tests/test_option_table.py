"""Every option is declared once: each one, said by flag or by variable, changes the job, and the pages tell of it."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hwnuma import CpuSet, NumaOptions, OptionError
from hwnuma.cli.options import BIND_OPTIONS, EXEC_OPTIONS, OTHER_VARIABLES, check_variables, meant, texts_of
from hwnuma.cli.parsing import add_options
from hwnuma.cli.processes import VERIFY_OPTIONS
from hwnuma.cli.reference import page
from hwnuma.launch.job import Job
from hwnuma.launch.told import Told
from hwnuma.model.option_table import Option, said
from hwnuma.model.value import Value, field
from tests.conftest import ROOT
from tests.test_cli import DGX, plan, run

EVERY_OPTION = tuple({option.flag: option for option in (*EXEC_OPTIONS, *BIND_OPTIONS)}.values())


def _asked(texts: dict[str, str], environment: dict[str, str]) -> tuple[Job, Told]:
    return Job.asked(texts, environment), Told.asked(texts, environment)


@pytest.mark.parametrize("option", EVERY_OPTION, ids=lambda option: option.flag)
def test_every_option_changes_the_job(option: Option) -> None:
    """Its example, as a flag and as a variable, makes another job (or another place) than saying nothing, and the same."""
    nothing = _asked({}, {})
    by_flag = _asked({option.name: option.example}, {})
    job, told = _asked({}, {option.variable: option.example})
    assert by_flag != nothing
    assert by_flag[0].options == job.options
    assert by_flag[1] == told
    assert (by_flag[0].gpus, by_flag[0].ranks, by_flag[0].gpu_nodes, by_flag[0].nccl_topology) == (
        job.gpus, job.ranks, job.gpu_nodes, job.nccl_topology,
    )  # fmt: skip


def test_the_command_line_precedes_the_environment() -> None:
    """And an empty variable says nothing."""
    assert Job.asked({"mode": "socket"}, {"HWNUMA_MODE": "exclusive"}).options.affinity_mode == "socket"
    assert Job.asked({}, {"HWNUMA_MODE": ""}).options.affinity_mode == "node"


@pytest.mark.parametrize("option", EVERY_OPTION, ids=lambda option: option.flag)
def test_an_error_names_the_flag_or_the_variable(option: Option) -> None:
    """Whichever it came from; an option that takes any text has no wrong one."""
    if option.convert is str:
        return
    with pytest.raises(OptionError, match=f"^{option.flag}: "):
        _asked({option.name: "²"}, {})
    with pytest.raises(OptionError, match=f"^{option.variable}: "):
        _asked({}, {option.variable: "²"})


def test_one_declaration_is_all_that_an_option_takes() -> None:
    """A new field with an option is on the command line, in the environment, in the class and in its documentation."""

    class More(Value):
        """Something more."""

        depth: int = field(default=1, option=Option("--more-depth", int, "how deep", "N", "more", example="2"))

    [option] = More._options.values()
    parser = argparse.ArgumentParser()
    add_options(parser, [option])
    assert More(**said(More, vars(parser.parse_args(["--more-depth", "2"])), {})).depth == 2
    assert More(**said(More, texts_of(["--more-depth=2", "true"], [option])[0], {})).depth == 2
    assert More(**said(More, {}, {"HWNUMA_MORE_DEPTH": "3"})).depth == 3
    assert "how deep [HWNUMA_MORE_DEPTH]" in parser.format_help()


def test_every_field_of_the_options_is_an_option() -> None:
    """None is left without a flag, and its documentation lists each."""
    assert set(NumaOptions._options) == set(NumaOptions._fields)
    assert NumaOptions.__doc__ is not None
    assert all(f"{name}: " in NumaOptions.__doc__ for name in NumaOptions._fields)


def test_the_reference_page_is_what_the_declarations_give(pytestconfig: pytest.Config) -> None:
    """docs/reference/options.md; --update-golden writes it anew."""
    path = ROOT / "docs" / "reference" / "options.md"
    if pytestconfig.getoption("--update-golden"):
        path.write_text(page())
    written = path.read_text()
    assert written == page()
    assert all(f"`{option.flag}`" in written for option in (*EVERY_OPTION, *VERIFY_OPTIONS))
    assert all(f"`{name}`" in written for name in OTHER_VARIABLES)


# ---- words that are nearly right -----------------------------------------------------------------------------


def test_a_misspelt_option_is_told_what_was_meant() -> None:
    """By every command, with the help to look at."""
    assert "did you mean --mode? (see hwnuma plan --help)" in run("plan", "--mdoe", "node", status=2).stderr
    assert "did you mean --mode? (see hwnuma exec --help)" in run("exec", "--mdoe", "node", "true", status=2).stderr
    assert "did you mean --format? (see hwnuma gpus --help)" in run("gpus", "--fromat", "json", status=2).stderr
    assert "did you mean plan?" in run("paln", status=2).stderr
    assert meant("--xyzzy", ["--mode"]) == ""


def test_an_unknown_variable_is_a_warning_with_the_nearest_name() -> None:
    """It would silently do nothing otherwise; with HWNUMA_STRICT it is an error."""
    done = run("plan", "--topology", DGX, HWNUMA_MDOE="exclusive")
    assert done.stderr == ("hwnuma: HWNUMA_MDOE is set, and hwnuma has no such variable; did you mean HWNUMA_MODE?\n")
    done = run("exec", "--cpus", "0", "true", HWNUMA_MDOE="exclusive", HWNUMA_STRICT="1", status=2)
    assert done.stderr.startswith("hwnuma exec: HWNUMA_MDOE is set")


def test_every_variable_that_the_package_reads_is_known() -> None:
    """Any HWNUMA_ name in the sources is an option's or in the table of the others, so that none is warned of."""
    known = {option.variable for option in EVERY_OPTION} | OTHER_VARIABLES.keys()
    for path in [*ROOT.joinpath("hwnuma").rglob("*.py"), *ROOT.joinpath("cffi_build").glob("*.py")]:
        found = set(re.findall(r"\bHWNUMA_[A-Z][A-Z_]+\b", path.read_text()))
        assert found <= known | _C_NAMES, path
    assert check_variables(dict.fromkeys(known, "1")) == []


_C_NAMES = {"HWNUMA_CARRIES_HWLOC"}


def test_verbose_says_where_a_rank_is_bound_and_why() -> None:
    """One line, as mpirun's --report-bindings gives."""
    done = run("exec", "--verbose", "--gpus", "none", "--ranks", "1", "--local-rank", "0", "true")
    assert done.stderr.startswith("hwnuma: local rank 0, CPUs ")
    assert done.stderr.endswith(": a share of the machine's cores\n")
    assert done.stderr.count("\n") == 1
    assert "as it was handed over" in run("exec", "--cpus", "0", "true", HWNUMA_VERBOSE="1").stderr
    assert run("exec", "--cpus", "0", "true").stderr == ""


# ---- GPUs by index -------------------------------------------------------------------------------------------


def test_gpus_are_chosen_by_index_and_range() -> None:
    """In the order given; the places are those of these GPUs in the machine."""
    data = plan("--topology", DGX, "--mode", "node", "--gpus", "6,0-1")
    assert [row["gpus"][0]["index"] for row in data["bindings"]] == [6, 0, 1]
    assert [row["nodeset"] for row in data["bindings"]] == ["5", "3", "3"]


@pytest.mark.parametrize(
    ("gpus", "reason"),
    [("8", "there is no GPU 8: the 8 GPUs here are 0 to 7"), ("3-1", "reversed"), ("0,0-2", "twice"), ("1-", "neither"),
     ("0-99999999999", "neither"), ("0-999999999", "no GPU 8"), ("-", "neither")],
)  # fmt: skip
def test_indexes_that_make_no_sense(gpus: str, reason: str) -> None:
    """One line, at once."""
    assert reason in run("plan", "--topology", DGX, f"--gpus={gpus}", status=2).stderr


def test_what_is_visible_here_is_told_to_be_left_out_of_another_machines_plan() -> None:
    """In one line."""
    [warning] = plan("--topology", DGX, CUDA_VISIBLE_DEVICES="0")["warnings"]
    assert warning.startswith("CUDA_VISIBLE_DEVICES=0 is for this system's devices and counts for nothing here")


# ---- the binding step imports nothing foreign ----------------------------------------------------------------


@pytest.mark.parametrize("hostile", ["argparse", "os", "errno", "hwnuma", "logging", "cffi"])
def test_a_wrapped_command_imports_nothing_from_where_it_stands(hostile: str, tmp_path: Path) -> None:
    """Neither from the working directory nor from PYTHONPATH; the command itself sees both as they are."""
    (tmp_path / f"{hostile}.py").write_text("raise SystemExit('this module is not the one')")
    code = "import os; print(os.getcwd(), os.environ['PYTHONPATH'])"
    from hwnuma import Binding

    for extra in ([], ["--verbose"]):
        command = Binding(0, cpuset=CpuSet("0")).wrap([sys.executable, "-I", "-c", code])
        command[4:4] = extra
        done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
                              check=True)  # fmt: skip
        assert done.stdout.split() == [str(tmp_path), str(tmp_path)]
