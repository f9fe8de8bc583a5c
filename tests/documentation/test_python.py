"""Python of the pages, as a program of its own, on a DGX H100 that hwnuma.testing makes this machine."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import hwnuma
from hwnuma.testing import FakeMachine
from tests.conftest import ROOT
from tests.documentation.blocks import Block, typed_by

pytestmark = pytest.mark.slow  # each starts one Python or many

LIMIT = 120.0  # seconds, only so that nothing hangs
HERE = "tests/documentation/test_python.py"
# What the pages call the reader's own module.
TRAIN = "def train(*arguments):\n    pass\n\n\ndef work(item):\n    return item\n"


def one(page: str, word: str) -> Block:
    """The block of a page that has this word in it."""
    (found,) = (block for block in typed_by(HERE, page) if word in block.text)
    return found


def type_it(block: Block, machine: FakeMachine, folder: Path, more: str = "", **variables: str) -> str:
    """Run a block as a program in a folder, and what is put behind it; what it printed."""
    (folder / "train.py").write_text(TRAIN)
    if not (folder / "fixtures").exists():
        (folder / "fixtures").symlink_to(ROOT / "fixtures")
    program = folder / "program.py"
    program.write_text(block.text + more)
    environment = machine.environment() | {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"} | variables
    done = subprocess.run(
        [sys.executable, str(program)], cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.fixture
def dgx(hwnuma_machine: Any) -> FakeMachine:
    """A DGX H100, for this process and its children."""
    machine: FakeMachine = hwnuma_machine("dgx_h100")
    return machine


def cpus_bound(machine: FakeMachine) -> set[str]:
    """The CPUs of each process that would have been bound."""
    return {str(each.cpus) for each in machine.bound}


def cpus_planned(plan: Sequence[hwnuma.Binding]) -> set[str]:
    """The CPUs of each rank of a plan."""
    return {str(place.cpuset) for place in plan}


def test_one_import_in_a_script(dgx: FakeMachine, tmp_path: Path) -> None:
    """README: hwnuma.bind binds local rank 5 where the plan has it."""
    type_it(one("README.md", "bind("), dgx, tmp_path, LOCAL_RANK="5")
    assert dgx.rank(5).cpus == hwnuma.plan_here("node")[5].cpuset


def test_a_plan_in_a_launcher(dgx: FakeMachine, tmp_path: Path) -> None:
    """README: what stands behind the two last lines is what they give."""
    block = one("README.md", "from_xml_file")
    *_, cpus, command = block.text.splitlines()
    assert type_it(block, dgx, tmp_path, "print(repr(plan[3].cpuset))\n").rstrip() == cpus.partition("# ")[2]
    words = type_it(block, dgx, tmp_path, f"print({command.partition('#')[0].strip()})\n")
    assert ast.literal_eval(words)[-3:] == ["python", "-u", "train.py"]


def test_visible_devices(dgx: FakeMachine, tmp_path: Path) -> None:
    """Two visible GPUs: the first is local rank 0's, and keeps its index."""
    block = one("docs/explanation/visible-devices.md", "visible_gpus")
    printed = type_it(
        block, dgx, tmp_path, "print(visible.gpus[0].index, visible.warnings)", CUDA_VISIBLE_DEVICES="6,1"
    )
    assert printed == "6 ()\n"


def test_a_capture(dgx: FakeMachine, tmp_path: Path) -> None:
    """The file that is saved is this machine, and the document is what is in it."""
    (tmp_path / "DIR").mkdir()
    block = one("docs/how-to/captures.md", "capture")
    type_it(block, dgx, tmp_path, "open('document.xml', 'w').write(captured.document)\n")
    (saved,) = (tmp_path / "DIR").iterdir()
    for file in (saved, tmp_path / "document.xml"):
        with hwnuma.Topology.from_xml_file(file) as topology:
            assert len(topology.machine().cores) == len(dgx.machine.cores)


def test_plans_of_plain_python(dgx: FakeMachine, tmp_path: Path) -> None:
    """The table that is printed is that of four workers without GPUs."""
    printed = type_it(one("docs/how-to/launchers/python.md", "print("), dgx, tmp_path)
    assert printed.rstrip() == str(hwnuma.plan_here("exclusive", ranks=4, gpus="none")).rstrip()


@pytest.mark.parametrize("word", ["subprocess", "Bound(train"])
def test_workers_of_plain_python(word: str, dgx: FakeMachine, tmp_path: Path) -> None:
    """Commands and processes of multiprocessing: every rank is where the plan has it."""
    wait = "\nfor worker in workers:\n    assert worker.wait() == 0\n" if word == "subprocess" else ""
    type_it(one("docs/how-to/launchers/python.md", word), dgx, tmp_path, wait)
    assert cpus_bound(dgx) == cpus_planned(hwnuma.plan_here("exclusive"))


def test_pools_of_plain_python(dgx: FakeMachine, tmp_path: Path) -> None:
    """The workers of both pools take places of the plan, and no others."""
    type_it(one("docs/how-to/launchers/python.md", "PlacePool"), dgx, tmp_path)
    assert cpus_bound(dgx)
    assert cpus_bound(dgx) <= cpus_planned(hwnuma.plan_here("exclusive"))


def test_all_of_them_are_here() -> None:
    """Eight blocks are looked for above, each by a word of its own."""
    assert len(typed_by(HERE)) == 8
