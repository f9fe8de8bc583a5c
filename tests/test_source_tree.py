"""hwnuma from a source tree: a clone without the extension module says what is missing, and README's code runs there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hwnuma import Machine, Topology
from tests import fake_nvml
from tests.conftest import ROOT
from tests.fake_nvml import FakeGpu, FakeNvml
from tests.processes import clean_environment
from tests.require import require

SNIPPETS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def python(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, as a user does who has just changed into it."""
    environment = {name: value for name, value in clean_environment(**variables).items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What a new clone has of the package: the sources alone."""
    built = shutil.ignore_patterns("_hwloc.*", "libhwloc*", "__pycache__")
    for name in ("hwnuma", "cffi_build"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=built)
    return tmp_path


def advice(clone: Path) -> str:
    """What is said of a source tree without extension: where it is, and the two ways out."""
    return (
        f"Python imports hwnuma from its source tree, {clone}, which has no extension module: build that in place with "
        f"pip install -e {clone}, or start Python in another folder to import the hwnuma that is installed"
    )


def test_a_source_tree_without_extension_says_so(clone: Path) -> None:
    """The error is an ImportError that is hwnuma's own, and nothing is said of reinstalling."""
    done = python(clone, "-c", "import hwnuma; hwnuma.Topology")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"hwnuma.errors.HwlocVersionError: {advice(clone)}"


@pytest.mark.parametrize(
    "command",
    [("plan", "--synthetic", "pu:2", "--gpus", "none", "--ranks", "1"), ("exec", "--cpus", "0", "true"), ("--help",)],
    ids=lambda words: words[0],
)
def test_a_command_in_a_source_tree_without_extension_says_so_in_a_line(clone: Path, command: tuple[str, ...]) -> None:
    """Without a traceback, and with the exit status of a command that cannot begin."""
    done = python(clone, "-m", "hwnuma", *command)
    assert (done.returncode, done.stderr) == (2, f"hwnuma: {advice(clone)}\n")


def test_a_broken_installation_is_told_apart(clone: Path) -> None:
    """Where the extension module is there and does not load, or there are no sources beside, the advice is another."""
    shutil.rmtree(clone / "cffi_build")
    done = python(clone, "-c", "import hwnuma; hwnuma.Topology")
    assert "hwnuma's extension module cannot be loaded (No module named 'hwnuma.hwloc._hwloc'): rei" in done.stderr
    (clone / "cffi_build").mkdir()
    (clone / "hwnuma" / "hwloc" / "_hwloc.abi3.so").write_text("no library")
    done = python(clone, "-c", "import hwnuma; hwnuma.Topology")
    assert "hwnuma's extension module cannot be loaded (" in done.stderr
    assert "source tree" not in done.stderr


@pytest.fixture
def one_gpu(tmp_path: Path) -> dict[str, str]:
    """The environment of a worker on a machine with one GPU near its first node, with a stand-in for the driver."""
    require(fake_nvml.compiler(), "there is no C compiler to build the fake NVML with")
    with Topology.from_this_system() as topology:
        machine: Machine = topology.machine()
    node = next(node for node in machine.cpu_nodes if node.cpuset & set(os.sched_getaffinity(0)))
    fake = FakeNvml([FakeGpu("0000:07:00.0", cpus=node.cpuset)], cpus_in_system=machine.cpuset.last + 1)
    return fake.variables(tmp_path) | {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_the_python_of_readme_runs_from_the_root(snippet: str, one_gpu: dict[str, str]) -> None:
    """As it stands there, in the root of the source tree, which is what `import hwnuma` finds first."""
    done = python(ROOT, "-c", snippet, **one_gpu)
    assert done.returncode == 0, done.stderr


def test_what_readme_says_that_an_expression_gives_is_what_it_gives() -> None:
    """`expression  # value` in its code, where the value is Python's own text of it."""
    (snippet,) = (each for each in SNIPPETS if "from_xml_file" in each)
    shown = re.findall(r"^(\S.*?) +# (CpuSet\(.*\))$", snippet, re.MULTILINE)
    assert len(shown) == 1
    for expression, value in shown:
        done = python(ROOT, "-c", f"{snippet}\nprint(repr({expression}))")
        assert done.stdout.splitlines()[-1:] == [value], done.stderr


def test_the_module_runs_from_the_root() -> None:
    """`python -m hwnuma` in the root of the source tree is the command."""
    done = python(ROOT, "-m", "hwnuma", "--version")
    assert (done.returncode, done.stdout[:7]) == (0, "hwnuma "), done.stderr
