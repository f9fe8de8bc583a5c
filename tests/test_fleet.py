"""`hwnuma fleet`: which of many machines are set up differently, and how, in words."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures import fleet as made
from hwnuma.captures.changed_places import Planned
from hwnuma.captures.document import document_of
from hwnuma.captures.fingerprint import _OF_ONE_MACHINE, fingerprint_of
from hwnuma.captures.fleet import classify, host_of
from hwnuma.model.facts import Facts, NvLink
from hwnuma.model.gpu import Gpu
from hwnuma.model.machine import Machine
from tests.conftest import ROOT, TOPOLOGIES
from tests.test_cli import run

NUMBER = 30
DGX = TOPOLOGIES / "dgx_a100_nps4.xml"


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A fleet with seven machines that are set up otherwise, and the sentence that is true of each."""
    folder = tmp_path_factory.mktemp("fleet")
    return folder, made.write(folder, NUMBER)


def few(folder: Path, number: int) -> Path:
    """A small fleet that is alike."""
    for each in range(number):
        (folder / f"n{each}.xml").write_text(made.one_of(made.norm(), f"n{each}"))
    return folder


def no_plans(_machine: Machine) -> tuple[Planned, ...]:
    """Compare no plans."""
    return ()


# ---- classes -------------------------------------------------------------------------------------------------


@pytest.mark.slow  # seven machines are made up, and captured
def test_seven_of_many_are_found(seven: tuple[Path, dict[str, str]]) -> None:
    """Exactly these, each in a class of its own, with the one sentence that is true of it; noise is none."""
    folder, planted = seven
    data = json.loads(run("fleet", "--format", "json", str(folder), status=1).stdout)
    assert (data["schema"], data["machines"], data["broken"]) == (1, NUMBER, [])
    first, *others = data["classes"]
    assert (first["norm"], first["differences"], len(first["hosts"])) == (True, [], NUMBER - 7)
    assert {each["hosts"][0]: each["differences"] for each in others} == {
        host: [said] for host, said in planted.items()
    }
    assert all(len(each["hosts"]) == 1 and not each["norm"] for each in others)
    moved = {each["differences"][0]: [plan["ranks"] for plan in each["plans"]] for each in others}
    assert moved[made.PLANTED["nps1"][1]] == [[*range(8)]] * 4
    assert moved[made.PLANTED["cgroup"][1]] == [[4, 5, 6, 7]] * 4
    for unmoved in ("port down", "half the memory", "numa_balancing"):
        assert moved[made.PLANTED[unmoved][1]] == [[]] * 4


@pytest.mark.slow  # the same seven
def test_people_read_the_same(seven: tuple[Path, dict[str, str]]) -> None:
    """Hosts are folded, differences stand below, and what becomes of the plans."""
    folder, planted = seven
    text = run("fleet", str(folder), "--mode", "node", status=1).stdout
    assert text.startswith(f"{NUMBER} machines, 7 of them in 7 classes that differ\n\nnorm, {NUMBER - 7}: node[00000-")
    for host, sentence in planted.items():
        assert f"\ndiffers, 1: {host}\n  {sentence}\n  plans: " in text
    assert "plans: ranks 0-7 are placed otherwise in node\n" in text
    assert text.count("plans: the norm's\n") == 3


def test_machines_that_are_alike(tmp_path: Path) -> None:
    """Status 0, one class; files that another program compressed, or that lie in a folder below, count too."""
    few(tmp_path, 3)
    (tmp_path / "below").mkdir()
    (tmp_path / "n2.xml").rename(tmp_path / "below" / "n2.xml")
    subprocess.run(["gzip", str(tmp_path / "n1.xml")], check=True)
    assert run("fleet", str(tmp_path)).stdout == "3 machines, all alike\n\nnorm, 3: n[0-2]\n"


def test_files_of_another_format_are_alike_all_the_same(tmp_path: Path) -> None:
    """What libhwloc reads as the same machine is the same, however it is written: more fingerprints, one class."""
    few(tmp_path, 3)
    document = re.sub(r'(cpuset="0x[0-9a-f]*),,', r"\1,0x00000000,", made.one_of(made.norm(), "n3"))
    assert document != made.one_of(made.norm(), "n3")
    (tmp_path / "n3.xml").write_text(document)
    assert fingerprint_of(document.encode(), "n3") != fingerprint_of((tmp_path / "n0.xml").read_bytes(), "n0")
    assert run("fleet", str(tmp_path)).stdout == "4 machines, all alike\n\nnorm, 4: n[0-3]\n"


def test_nvlinks_count_and_the_addresses_of_their_ends_do_not() -> None:
    """Cards in other slots of the same order are alike; another number of links between two is another machine."""

    def found(links: int, first: str, second: str) -> object:
        facts = Facts(gpus=(Gpu(0, first), Gpu(1, second)), nvlinks=(NvLink(first, second, links),))
        told, _ = document_of(DGX.read_text(), facts, anonymous=False)
        return fingerprint_of(told.encode(), "n0")

    norm = found(18, "0000:18:00.0", "0000:29:00.0")
    assert found(18, "0000:29:00.0", "0000:3a:00.0") == norm
    assert found(17, "0000:18:00.0", "0000:29:00.0") != norm
    assert found(18, "0000:29:00.0", "0000:18:00.0") != norm


@pytest.mark.parametrize(
    ("file", "host"),
    [("a/n1.xml", "n1"), ("n1.xml.gz", "n1"), ("n1.XML.GZ", "n1"), ("n1.xml.xz", "n1"), ("n1.c.xml", "n1.c"), ("n1", "n1")],
)  # fmt: skip
def test_a_host_is_its_files_name(file: str, host: str) -> None:
    """Without the folder and the endings."""
    assert host_of(file) == host


def test_what_is_one_machines_alone_is_a_fact() -> None:
    """The table of what names one machine names fields that there are."""
    assert _OF_ONE_MACHINE.keys() <= {*Facts._fields}


# ---- broken files --------------------------------------------------------------------------------------------


def test_broken_files_are_named_and_stop_nothing(tmp_path: Path) -> None:
    """Cut short, damaged, of another kind, unreadable, or made to be huge: one line each, and the others are compared."""
    few(tmp_path, 2)
    document = made.one_of(made.norm(), "x").encode()
    (tmp_path / "cut.xml").write_bytes(document[:5000])
    (tmp_path / "empty.xml").write_bytes(b"")
    (tmp_path / "damaged.xml.gz").write_bytes(b"\x1f\x8b\x08" + document[:100])
    (tmp_path / "other.xml").write_text("<system/>")
    (tmp_path / "facts.xml").write_bytes(
        document.replace(b'name="HwnumaAffinity" value="', b'name="HwnumaAffinity" value="x')
    )
    (tmp_path / "laughs.xml").write_text('<!DOCTYPE t [<!ENTITY a "b">]><topology>&a;</topology>')
    (tmp_path / "deep.xml").write_text('<topology version="2.0">' + "<object>" * 5000)
    (tmp_path / "number.xml").write_bytes(document.replace(b'local_memory="', b'local_memory="-x', 1))
    os.mkfifo(tmp_path / "fifo.xml")
    (tmp_path / "nowhere.xml").symlink_to(tmp_path / "gone")
    data = json.loads(run("fleet", "--format", "json", str(tmp_path), status=1).stdout)
    assert [each["hosts"] for each in data["classes"]] == [["n0", "n1"]]
    broken = {Path(each["file"]).name: each["error"] for each in data["broken"]}
    assert broken.keys() == {path.name for path in tmp_path.iterdir()} - {"n0.xml", "n1.xml"}
    assert all("\n" not in error and error for error in broken.values())
    assert "it is a FIFO" in broken["fifo.xml"]
    assert "declarations" in broken["laughs.xml"]
    text = run("fleet", str(tmp_path), status=1).stdout
    assert "2 machines, all alike; 10 files broken\n" in text
    assert text.count("\nbroken: ") == 10


def test_what_libhwloc_dies_of_is_broken(tmp_path: Path) -> None:
    """It is seen where a file of each class is loaded, and no file suffers that is like it but for what is deadly."""
    bad = re.sub(' complete_cpuset="[^"]*"', "", made.norm(), count=1)
    for each in range(3):
        (tmp_path / f"bad{each}.xml").write_text(made.one_of(bad, f"bad{each}", noise=False))
        (tmp_path / f"n{each}.xml").write_text(made.one_of(made.norm(), f"n{each}", noise=False))
    data = json.loads(run("fleet", "--format", "json", str(tmp_path), status=1).stdout)
    assert [each["hosts"] for each in data["classes"]] == [["n0", "n1", "n2"]]
    assert [Path(each["file"]).name for each in data["broken"]] == [f"bad{each}.xml" for each in range(3)]
    assert all(Path(each["file"]).name in each["error"] for each in data["broken"])


def dies_on_smt_off(machine: Machine) -> tuple[Planned, ...]:
    """Plan as what is made to kill whoever reads it would have it."""
    if len(machine.cpuset) == 128:
        os.kill(os.getpid(), signal.SIGKILL)
    return ()


@pytest.mark.slow  # a second, since each file is read by a process that is new
def test_a_file_that_kills_its_reader_is_broken(tmp_path: Path) -> None:
    """The process that reads it dies, and no other file suffers."""
    few(tmp_path, 4)
    others = {"smt.xml": made.PLANTED["smt off"][0](), "port.xml": made.PLANTED["port down"][0]()}
    for name, template in others.items():
        (tmp_path / name).write_text(made.one_of(template, name, noise=False))
    found = classify(sorted(map(str, tmp_path.iterdir())), dies_on_smt_off, workers=2)
    assert [each.hosts for each in found.classes] == [("n0", "n1", "n2", "n3"), ("port",)]
    [broken] = found.broken
    assert (Path(broken.file).name, broken.error.partition(":")[0]) == ("smt.xml", "whatever reads it dies")


def test_where_nothing_is_a_capture(tmp_path: Path) -> None:
    """Status 2: of an empty folder, of a name that is nothing, of files that are all broken."""
    assert "there is no .xml and no .xml.gz in" in run("fleet", str(tmp_path), status=2).stderr
    done = run("fleet", str(tmp_path / "nothing.xml"), status=2)
    assert "No such file" in done.stdout
    assert done.stderr == "hwnuma fleet: none of the files is a capture\n"


@pytest.mark.slow  # another machine is made up, and captured
def test_the_largest_class_in_words_is_the_norm(tmp_path: Path) -> None:
    """Two classes of files that are alike in words are one, and may together outnumber what was the norm."""
    template = made.PLANTED["port down"][0]()
    for each in range(3):
        (tmp_path / f"down{each}.xml").write_text(made.one_of(template, f"down{each}"))
    few(tmp_path, 4)
    for each in (2, 3):
        path = tmp_path / f"n{each}.xml"
        path.write_text(re.sub(r'(cpuset="0x[0-9a-f]*),,', r"\1,0x00000000,", path.read_text()))
    found = classify(sorted(map(str, tmp_path.iterdir())), no_plans, workers=1)
    assert [each.hosts for each in found.classes] == [("n0", "n1", "n2", "n3"), ("down0", "down1", "down2")]
    assert found.classes[1].differences == ("NIC mlx5_2: active \N{RIGHTWARDS ARROW} down",)


# ---- the terminal --------------------------------------------------------------------------------------------


def test_a_terminal_sees_how_far_it_is(tmp_path: Path) -> None:
    """A bar on standard error that is gone at the end; where that is no terminal, nothing."""
    few(tmp_path, 2)
    assert run("fleet", str(tmp_path)).stderr == ""
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "hwnuma", "fleet", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=terminal, cwd=ROOT, env={**os.environ, "TERM": "xterm"}) as process:  # fmt: skip
        os.close(terminal)
        shown = b""
        while select.select([controller], [], [], 60)[0]:
            try:
                piece = os.read(controller, 4096)
            except OSError:  # EIO: the other end is closed
                break
            shown += piece
    os.close(controller)
    assert process.returncode == 0
    assert b"0/2 files" in shown
    assert shown.endswith(b"\r\x1b[K")


def test_an_interrupt_leaves_no_process(tmp_path: Path) -> None:
    """Ctrl-C, which the terminal sends to all of them, ends all."""
    few(tmp_path, 1)
    for each in range(2000):
        (tmp_path / f"m{each}.xml").hardlink_to(tmp_path / "n0.xml")
    process = subprocess.Popen(
        [sys.executable, "-m", "hwnuma", "fleet", str(tmp_path)], stdout=subprocess.PIPE, start_new_session=True
    )
    while not Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().strip():
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)  # until the last process has closed its standard output
    assert process.returncode == -signal.SIGINT


def test_named_files_and_folders_go_together(tmp_path: Path) -> None:
    """A file that is named twice is read once, whatever its ending is."""
    few(tmp_path, 1)
    other = tmp_path / "other"
    shutil.copy(DGX, other)
    data = json.loads(
        run("fleet", "--format", "json", str(tmp_path / "n0.xml"), str(tmp_path), str(other), status=1).stdout
    )
    assert data["machines"] == 2
    assert [each["hosts"] for each in data["classes"]] == [["n0"], ["other"]]
