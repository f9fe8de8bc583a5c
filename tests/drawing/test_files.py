"""Drawings as files that other programs read: SVG, PNG, PDF, and the XML that lstopo draws."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hwnuma import Topology
from tests.conftest import ROOT, TOPOLOGIES
from tests.require import require
from tests.test_cli import DGX, plan, run

pytestmark = pytest.mark.drawing

EXCLUSIVE = ("--topology", DGX, "--mode", "exclusive")
FRONTIER = str(TOPOLOGIES / "frontier_mi250x.xml")


def _program(name: str) -> str:
    found = shutil.which(name)
    require(found, f"{name} is not installed (tests/drawing/setup)")
    assert found is not None
    return found


# ---- lstopo --------------------------------------------------------------------------------------------------


def test_lstopo_draws_the_plan(tmp_path: Path) -> None:
    """Its own drawing of the file has the ranks' colours on cores and GPUs, their labels, and the legend."""
    run("plan", *EXCLUSIVE, "--output", str(tmp_path / "plan.xml"))
    drawn = tmp_path / "plan.fig"  # of all that lstopo writes, this has text as text
    subprocess.run([_program("lstopo"), "-i", tmp_path / "plan.xml", drawn], check=True, timeout=60)
    text = drawn.read_text(encoding="latin-1")
    assert {f"rank {rank}": text.count(f"rank {rank}\\001") for rank in range(8)} == {
        f"rank {rank}": 8 for rank in range(8)
    }
    assert {"#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#999999"} <= set(
        re.findall(r"#[0-9a-f]{6}", text)
    )
    assert "mode exclusive on " in text
    assert "0: rank 0  GPU 0  8 cores  CPUs 48-55,176-183" in text
    assert f"made by: hwnuma plan --topology {DGX}" in text


def test_the_file_is_the_same_machine(tmp_path: Path) -> None:
    """A plan on it is that on the original; libhwloc keeps the ranks of each CPU as an info attribute."""
    run("plan", *EXCLUSIVE, "--output", str(tmp_path / "plan.xml"))
    again = plan("--topology", str(tmp_path / "plan.xml"), "--mode", "exclusive")
    assert again["bindings"] == plan(*EXCLUSIVE)["bindings"]
    with Topology.from_xml_file(tmp_path / "plan.xml") as topology:
        exported = ElementTree.fromstring(topology.export_xml())
    ranks = {
        int(unit.get("os_index", "")): info.get("value")
        for unit in exported.iter("object") if unit.get("type") == "PU"
        for info in unit.iter("info") if info.get("name") == "HwnumaRanks"
    }  # fmt: skip
    assert {cpu for cpu, rank in ranks.items() if rank == "3"} == {*range(24, 32), *range(152, 160)}
    assert len(ranks) == 128


# ---- PNG and PDF ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cairosvg", "rsvg-convert"])
@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_png_and_pdf(how: str, kind: str, tmp_path: Path) -> None:
    """By CairoSVG, and by rsvg-convert where that is not installed: twice the size of the SVG, which is sharp."""
    if how == "cairosvg":
        require(find_spec("cairosvg"), "CairoSVG is not installed (the extra test-drawing)")
    else:
        _program(how)
    output = tmp_path / f"plan.{kind}"
    hide = "import sys; sys.modules['cairosvg'] = None; " if how != "cairosvg" else ""
    code = f"{hide}from hwnuma.cli.start import main; sys.exit(main({['plan', *EXCLUSIVE, '--output', str(output)]!r}))"
    subprocess.run([sys.executable, "-c", f"import sys; {code}"], check=True, timeout=60, cwd=ROOT)
    content = output.read_bytes()
    assert content.startswith({"png": b"\x89PNG\r\n", "pdf": b"%PDF-"}[kind])
    if kind == "png":
        width = int.from_bytes(content[16:20], "big")
        assert width == 2880


def test_png_without_either_says_what_to_install(tmp_path: Path) -> None:
    """In one line, and writes nothing."""
    code = (
        "import sys; sys.modules['cairosvg'] = None; from hwnuma.cli.start import main; "
        f"sys.exit(main({['plan', *EXCLUSIVE, '--output', str(tmp_path / 'a.png')]!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={"PATH": str(tmp_path)}, cwd=ROOT
    )
    assert done.returncode == 2
    assert "pip install 'hwnuma[pictures]'" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize("machine", sorted(TOPOLOGIES.glob("*.xml")), ids=lambda path: path.stem)
def test_every_machine_is_a_picture_that_librsvg_draws(machine: Path, tmp_path: Path) -> None:
    """The SVG of every fixture is well-formed and drawn, without a word of complaint."""
    output = tmp_path / "machine.svg"
    run("show", "--topology", str(machine), "--output", str(output))
    done = subprocess.run(
        [_program("rsvg-convert"), output, "-o", tmp_path / "machine.png"], check=True, capture_output=True, text=True
    )
    assert done.stderr == ""


# ---- shells, man ---------------------------------------------------------------------------------------------


def test_bash_completes_commands_options_and_values(tmp_path: Path) -> None:
    """`hwnuma pl<Tab>`, `hwnuma plan --mod<Tab>`, and `--mode ex<Tab>`, in a real bash."""
    script = tmp_path / "hwnuma.bash"
    script.write_text(run("--print-completion", "bash").stdout)
    asked = {
        ("pl",): "plan",
        ("plan", "--mod"): "--mode",
        ("plan", "--mode", "ex"): "exclusive",
        ("gpus", "--format", "j"): "json",
    }
    for words, answer in asked.items():
        line = f"""source {script}; COMP_WORDS=(hwnuma {" ".join(words)}); COMP_CWORD={len(words)}
        f=$(complete -p hwnuma | sed 's/.*-F \\([^ ]*\\).*/\\1/'); $f hwnuma {words[-1]} x; echo "${{COMPREPLY[@]}}" """
        done = subprocess.run([_program("bash"), "-c", line], capture_output=True, text=True, check=True)
        assert done.stdout.split() == [answer], (words, done)


def test_fish_completes_commands_options_and_values(tmp_path: Path) -> None:
    """The same in fish."""
    script = tmp_path / "hwnuma.fish"
    script.write_text(run("--print-completion", "fish").stdout)
    for line, answer in {
        "hwnuma pl": "plan",
        "hwnuma plan --mod": "--mode",
        "hwnuma plan --mode ex": "exclusive",
    }.items():
        done = subprocess.run(
            [_program("fish"), "-N", "-c", f"source {script}; complete -C '{line}'"],
            capture_output=True, text=True, check=True, env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        assert answer in [row.split("\t")[0] for row in done.stdout.split("\n")], (line, done)


def test_zsh_takes_the_script(tmp_path: Path) -> None:
    """The shell zsh parses it, and has the function of the command."""
    script = tmp_path / "_hwnuma"
    script.write_text(run("--print-completion", "zsh").stdout)
    assert script.read_text().startswith("#compdef hwnuma\n")
    subprocess.run([_program("zsh"), "-f", "-n", str(script)], check=True)
    assert "exclusive" in script.read_text()


def test_the_manual_page_is_roff_that_groff_has_no_word_against() -> None:
    """Formatted for a terminal, with every warning on."""
    command = [_program("groff"), "-man", "-Tutf8", "-ww", "-P-c", str(ROOT / "docs" / "reference" / "hwnuma.1")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "--threads-per-core N" in re.sub(".\b", "", done.stdout)
