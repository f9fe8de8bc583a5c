"""Commands of hwnuma that need no launcher: in bash, in a folder that has the files which they name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hwnuma import CpuSet
from tests.conftest import ROOT
from tests.documentation.blocks import Block, typed_by
from tests.launchers.jobs import require_two_cores
from tests.processes import clean_environment

pytestmark = pytest.mark.slow  # each command is a Python's start, and two of them measure for half a minute

LIMIT = 300.0  # seconds, only so that nothing hangs
HERE = "tests/documentation/test_commands.py"
MACHINE = ROOT / "fixtures" / "topologies" / "dgx_h100.xml"
BENCH = ("docs/how-to/bench.md", "docs/how-to/compare.md")


def type_it(text: str, folder: Path, **variables: str) -> str:
    """Type this in bash; what was printed on standard output and error."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", text], cwd=folder, env=clean_environment(PATH=path, **variables), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def blocks_of(page: str) -> list[Block]:
    """What is typed here of a page."""
    found = typed_by(HERE, page)
    assert found
    return found


def without_gpus() -> dict[str, str]:
    """What this machine, which has no GPU, has to be told where a plan is made of it."""
    return {"HWNUMA_GPUS": "none", "HWNUMA_RANKS": "2"}


def test_all_pages_are_here() -> None:
    """Each page with such commands has a test below."""
    here = {"captures", "fleet", "formats", "json", "bench", "compare", "half-a-machine", "no-gpu"}
    assert {Path(block.page).stem for block in typed_by(HERE)} == here


def test_captures(tmp_path: Path) -> None:
    """The plan that is printed here is the one that the machine gives itself."""
    (block,) = blocks_of("docs/how-to/captures.md")
    captured, planned = block.commands
    type_it(captured, tmp_path, **without_gpus())
    assert (tmp_path / "dgx.xml").stat().st_mode & 0o777 == 0o600
    elsewhere = type_it(planned, tmp_path, **without_gpus())
    here = type_it(planned.replace("--topology dgx.xml", ""), tmp_path, **without_gpus())
    assert here.replace("this system", "dgx.xml").splitlines()[:4] == elsewhere.splitlines()[:4]


def test_fleet(tmp_path: Path) -> None:
    """Captures of this machine, and two plans of it: nothing differs, so nothing is said; and all are alike."""
    captures, plans = blocks_of("docs/how-to/fleet.md")
    (tmp_path / "DIR").mkdir()
    for name in ("node001.xml", "node002.xml", "DIR/node003.xml", "DIR/node004.xml"):
        type_it(f"hwnuma capture {name}", tmp_path)
    first, second, third = (type_it(command, tmp_path, **without_gpus()) for command in captures.commands)
    assert (first, second) == ("", "")
    assert third.startswith("2 machines, all alike")
    assert type_it(plans.text, tmp_path, **without_gpus()) == ""


def test_formats(tmp_path: Path) -> None:
    """Every format of the table is one that is printed."""
    (block,) = blocks_of("docs/reference/formats.md")
    rows = [line.split("`")[1] for line in (ROOT / block.page).read_text().splitlines() if line.startswith("| `")]
    assert len(rows) >= 12
    command = f"{block.text.strip()} --topology {MACHINE}"
    for name in rows:
        if name != "openmpi-pe-list":  # which this plan is refused as, and the page says so
            assert type_it(command.replace("FORMAT", name), tmp_path)


def test_json(tmp_path: Path) -> None:
    """The names, and one of the schemas as a file."""
    (block,) = blocks_of("docs/reference/json.md")
    assert "plan" in type_it(block.text, tmp_path).split()
    assert json.loads((tmp_path / "plan.schema.json").read_text())["title"]


def test_half_a_machine(tmp_path: Path) -> None:
    """A plan within what is allowed, here and elsewhere; and the line that says what `taskset` cost, as the page has it."""
    looked, bound = blocks_of("docs/how-to/half-a-machine.md")
    (tmp_path / "node.xml").write_bytes((MACHINE.parent / "dgx_a100_nps4.xml").read_bytes())
    here, elsewhere = looked.commands
    assert "no CPU is given to two ranks" in type_it(here, tmp_path, **without_gpus())
    # Half of its GPUs have no place then, which the exit status says.
    assert "allowed CPUs 0-63,128-191" in type_it(f"set +e\n{elsewhere}\n[ $? = 1 ]", tmp_path)
    require_two_cores()
    every = CpuSet(os.sched_getaffinity(0))
    assert (
        type_it(bound.commands[0], tmp_path) == "\n".join(bound.text.splitlines()[1:]).replace("0-1", str(every)) + "\n"
    )


def test_no_gpu(tmp_path: Path) -> None:
    """Two ranks planned, started by a loop on CPUs that they do not share, and with OpenMP's variables."""
    require_two_cores()
    worker = tmp_path / "worker"
    worker.write_text("#!/bin/sh\nexec grep Cpus_allowed_list /proc/self/status\n")
    worker.chmod(0o755)
    planned, started, with_openmp = blocks_of("docs/how-to/no-gpu.md")
    rows = [line.split() for line in type_it(planned.text, tmp_path).splitlines()[2:4]]
    assert [row[0] for row in rows] == ["0", "1"]
    told = [line.split()[1] for line in type_it(started.text, tmp_path).splitlines()]
    assert sorted(told) == sorted(row[5] for row in rows)
    printed = type_it(with_openmp.commands[0], tmp_path).splitlines()
    names = [line.partition("=")[0] for line in with_openmp.text.splitlines() if line.startswith("OMP_")]
    assert len(names) == 3
    assert {line.partition("=")[0] for line in printed if line.startswith("OMP_")} == set(names)
    assert "OMP_PROC_BIND=false" in printed


@pytest.mark.parametrize("page", BENCH)
def test_bench(page: str, tmp_path: Path) -> None:
    """The headings that are shown come out; the figures are the machine's. The solver is a program that ends at once.

    --busy is added: here others measure and test at the same time.
    """
    (block,) = blocks_of(page)
    solver = tmp_path / "solver"
    solver.write_text("#!/bin/sh\nexec true\n")
    solver.chmod(0o755)
    printed = type_it(block.commands[0].replace("bench", "bench --busy", 1), tmp_path, HWNUMA_GPUS="none")
    assert printed.split("\n")[0].split() == block.text.split("\n")[1].split()
