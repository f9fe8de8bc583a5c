"""A machine and a plan as pictures: the model, and what the terminal shows of it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import lzma
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
import zlib
from functools import cache
from pathlib import Path

import pytest

from hwnuma import CpuSet, NumaOptions, Topology
from hwnuma.launch.job import Job, plan_job
from hwnuma.model.gpu import FoundGpus
from hwnuma.model.machine import Machine
from hwnuma.model.options import AffinityMode
from hwnuma.model.value import replace
from hwnuma.policy.locality import locate
from hwnuma.report.layout import wrapped
from hwnuma.report.palette import THEME, colours
from hwnuma.report.picture import DISALLOWED, RESERVED, UNUSED, NodeBox, Picture, picture_of
from hwnuma.report.terminal import ASCII, picture_as_text
from tests.conftest import ROOT, TOPOLOGIES, load_machine, synthetic
from tests.every_machine import MACHINES, every_machine
from tests.test_cli import DGX, run

NAMES = MACHINES
GB200 = str(TOPOLOGIES / "gb200_nvl72_tray.xml")


def picture(machine: Machine, mode: str = "", **options: object) -> Picture:
    """The picture of a machine with its GPUs if it has any, and of a plan in a mode."""
    job = Job(NumaOptions(mode or "node", **options), environment={})
    try:
        found = job.find_gpus(machine)
    except LookupError:
        found = FoundGpus((), (), "none")
        job = Job(job.options, gpus="none", ranks=4, environment={})
    plan = plan_job(machine, job, found) if mode else None
    return picture_of(machine, found.all, locate(machine, found.all), plan)


@cache
def picture_of_fixture(name: str, mode: str) -> Picture:
    """The same of a fixture."""
    return picture(load_machine(name), mode)


# ---- what is drawn -------------------------------------------------------------------------------------------


@every_machine
@pytest.mark.parametrize("mode", ["", *(mode.value for mode in AffinityMode)])
def test_every_core_is_drawn_once_and_carries_its_ranks(name: str, mode: str) -> None:
    """On every fixture and in every mode: the cells' CPUs are the machine's, and the marks' the plan's."""
    machine, drawn = load_machine(name), picture_of_fixture(name, mode)
    cells = [cell for *_, cell in drawn.cells()]
    assert sum(len(cell.cpuset) for cell in cells) == len(machine.cpuset)
    assert {cpu for cell in cells for cpu in cell.cpuset} == {*machine.cpuset}
    for mark in drawn.marks:
        assert mark.cpuset == CpuSet(cpu for cell in cells if cell.mark is mark for cpu in cell.given)
        assert mark.cores == sum(1 for cell in cells if cell.mark is mark)


@every_machine
@pytest.mark.parametrize("mode", ["", *(mode.value for mode in AffinityMode)])
def test_a_drawing_is_no_wider_than_the_terminal(name: str, mode: str) -> None:
    """On every fixture, in every mode; and at 200 columns it is no longer than at 80."""
    drawn = picture_of_fixture(name, mode)
    lines = {width: picture_as_text(drawn, width).split("\n") for width in (60, 80, 132, 200)}
    for width, those in lines.items():
        assert max(map(len, those)) <= width
    assert len(lines[200]) <= len(lines[80])


def test_a_wide_terminal_shows_packages_beside_each_other() -> None:
    """And NUMA nodes in one row, so that the whole fits a screen."""
    drawn = picture(load_machine("dgx_a100_nps4"), "exclusive")
    wide = picture_as_text(drawn, 200).split("\n")
    assert any("package 0" in line and "package 1" in line for line in wide)
    assert len(wide) < len(picture_as_text(drawn, 80).split("\n")) * 2 / 3


def test_ranks_are_read_from_numbers_without_colour() -> None:
    """Each core carries its rank's number: 8 cores a rank on a DGX A100, 64 of nobody."""
    text = picture_as_text(picture(load_machine("dgx_a100_nps4"), "exclusive"))
    cores = "".join(re.findall(r"│([0-9·]+)(?=│)", text))
    assert {mark: cores.count(mark) for mark in "01234567·"} == {**dict.fromkeys("01234567", 8), "·": 64}
    assert "\x1b" not in text


def test_cores_that_ranks_share_carry_a_letter() -> None:
    """The legend says which ranks these are."""
    text = picture_as_text(picture(load_machine("dgx_h100"), "node"))
    assert text.count("A" * 56) == text.count("B" * 56) == 1
    assert "A  ranks 0-3  GPUs 0-3  56 cores shared  CPUs 0-55,112-167" in text


def test_more_ranks_than_digits_have_letters_and_then_two_characters() -> None:
    """Rank 10 is a, and with over 36 ranks each core is two characters wide."""
    machine = synthetic("pack:2 numa:1 core:32 pu:1")
    for ranks, mark in ((16, "f"), (64, "63")):
        job = Job(NumaOptions("exclusive"), gpus="none", ranks=ranks, environment={})
        drawn = picture_of(machine, plan=plan_job(machine, job))
        assert drawn.marks[-1].text == mark
        assert f"{mark}│" in picture_as_text(drawn)


def test_unused_reserved_and_disallowed_cores_look_different() -> None:
    """Each has a character of its own, in ASCII too, and a line in the legend that says which CPUs."""
    machine = load_machine("dgx_a100_nps4").narrowed(CpuSet("0-127"))
    drawn = picture(machine.narrowed(CpuSet("0-63")), "exclusive", reserved_cpus=CpuSet("0-3"))
    assert {*drawn.others} == {UNUSED, RESERVED, DISALLOWED}
    text = picture_as_text(drawn)
    assert "▒  reserved  4 cores  CPUs 0-3,128-131" in text
    assert "╳  not allowed  64 cores  CPUs 64-127,192-255" in text  # noqa: RUF001 -- as it is drawn
    assert len({ASCII[character] for character in "■·▒╳"}) == 4  # noqa: RUF001 -- likewise


def test_one_thread_of_a_core_is_told_of() -> None:
    """With --threads-per-core the mark's CPUs are those that its rank gets, and the core's is told in full."""
    drawn = picture(load_machine("dgx_a100_nps4"), "exclusive", threads_per_core=1)
    assert str(drawn.marks[0].cpuset) == "48-55"
    assert next(cell for *_, cell in drawn.cells() if cell.mark).about == "CPUs 16,144: rank 2, of these CPU 16"


def test_memory_nodes_stand_under_the_package_they_are_near() -> None:
    """A GB200 tray has 32 of them: those that are alike are one line, 16 on each side."""
    drawn = picture(load_machine("gb200_nvl72_tray"))
    assert [len(package.memory_nodes) for package in drawn.packages] == [2, 2]
    text = picture_as_text(drawn)
    first, second = text.split("package 1")
    assert "nodes 3-9,11-17  no CPUs, near 0-71  memory unknown" in first
    assert "nodes 18,26  no CPUs, near 72-143  184 GiB GPUMemory each" in second


def test_28_nodes_that_are_alike_are_one_line() -> None:
    """Where they are near the same package."""
    machine = load_machine("gb200_nvl72_tray")
    near = machine.packages[1].cpuset
    same = tuple(node if node.cpuset else replace(node, near_cpuset=near) for node in machine.numa_nodes)
    moved = picture_of(replace(machine, numa_nodes=same))
    assert moved.packages[1].memory_nodes == (
        "nodes 2,10,18,26  no CPUs, near 72-143  184 GiB GPUMemory each",
        "nodes 3-9,11-17,19-25,27-33  no CPUs, near 72-143  memory unknown",
    )


def test_a_gpu_that_has_a_cache_of_its_own_is_named_at_it() -> None:
    """On Frontier each of the eight; on a DGX A100, whose GPUs hang at a node of four caches, none."""
    text = picture_as_text(picture(load_machine("frontier_mi250x")))
    assert all(f"L3 GPU {number}" in text for number in range(8))
    assert "L3 GPU" not in picture_as_text(picture(load_machine("dgx_a100_nps4")))


def test_gpus_stand_at_their_node_with_their_ranks() -> None:
    """In the box of the node, in its rank's colour; where all are known from one source it is said once."""
    drawn = picture(load_machine("dgx_a100_nps4"), "exclusive")
    node = drawn.packages[0].nodes[3]
    gpus = [device.words for device in node.devices if device.kind == "GPU"]
    assert gpus == ["GPU 0  0000:07:00.0  rank 0", "GPU 1  0000:0f:00.0  rank 1"]
    assert [device.mark.text for device in node.devices if device.mark] == ["0", "1"]
    assert drawn.notes == ("which node each GPU is on is known from hwloc",)


def test_network_cards_stand_at_their_node() -> None:
    """With the ranks that send through them, in their colour, or that they are down; GPUs and NICs in rows of their own."""
    drawn = picture(load_machine("dgx_h100"), "exclusive", nics="auto")
    cards = {device.name: device for node in _nodes(drawn) for device in node.devices if device.kind == "NIC"}
    assert cards["mlx5_0"].words == "mlx5_0  0000:18:00.0  rank 0"
    assert cards["mlx5_1"].words == "mlx5_1  0000:29:00.0  down"
    assert [mark.text if mark else "" for mark in (cards["mlx5_0"].mark, cards["mlx5_1"].mark)] == ["0", ""]
    assert len(cards) == 12
    lines = picture_as_text(drawn).split("\n")
    assert not any("GPU" in line and "mlx5" in line for line in lines)


def _nodes(drawn: Picture) -> list[NodeBox]:
    return [node for package in drawn.packages for node in package.nodes]


def test_network_cards_of_no_one_node_are_named() -> None:
    """Not put where they are not known to be."""
    machine = load_machine("dgx_h100")
    everywhere = tuple(replace(device, is_near_root=True, near_cpuset=machine.cpuset) for device in machine.pci_devices)
    drawn = picture_of(replace(machine, pci_devices=everywhere))
    assert not [device for node in _nodes(drawn) for device in node.devices]
    assert drawn.notes[0].startswith("not near one node alone, as far as is known: mlx5_0, mlx5_1, ")


def test_topo_draws_the_machine_and_its_matrix(tmp_path: Path) -> None:
    """As SVG and as HTML, every device in one table."""
    for kind in ("svg", "html"):
        path = tmp_path / f"topo.{kind}"
        run("topo", "--topology", str(TOPOLOGIES / "dgx_h100.xml"), "--output", str(path))
        text = path.read_text()
        assert re.search(r"GPU0 +GPU1 .* NIC11", text)
        assert "package 1" in text
    wide = run("topo", "--topology", str(TOPOLOGIES / "dgx_h100.xml"), COLUMNS="160").stdout
    assert re.search(r"GPU0 +GPU1 .* NIC11", wide)


def test_ranks_without_a_place_and_gpus_without_a_node_are_told_of_once() -> None:
    """With the reason of the first, and which others it is true of."""
    unplaced = picture(load_machine("slurm_cut_a100_pcie8"), "exclusive")
    assert unplaced.notes[-1].startswith("rank 4 is not placed: GPU 4 (0000:98:00.0) is on NUMA node 1")
    assert sum("is not placed" in note for note in unplaced.notes) == 1
    assert "not placed" in picture_as_text(unplaced).split("package 1")[1]
    homeless = picture(load_machine("aws_g5_48xlarge"))
    assert len(homeless.notes) == 1
    assert "GPUs 1-7 likewise" in homeless.notes[0]


@pytest.mark.parametrize(
    "description",
    [
        "pu:3",
        "numa:2 pu:2",
        "pack:2 pu:4",
        "pack:1 core:1 pu:8",
        "pack:3 numa:2 l3:2 core:3 pu:1",
        "numa:1 pack:2 core:2 pu:1",
    ],
)
def test_odd_machines_are_drawn_too(description: str) -> None:
    """Without packages, without caches, with a node over two packages: every core once, in 80 columns."""
    machine = synthetic(description)
    drawn = picture(machine, "exclusive") if len(machine.cores) >= 4 else picture(machine)
    assert sum(len(cell.cpuset) for *_, cell in drawn.cells()) == len(machine.cpuset)
    assert max(map(len, picture_as_text(drawn).split("\n"))) <= 80


def test_a_machine_of_4096_cpus_is_drawn_in_a_bounded_time() -> None:
    """In 16 packages of 128 cores, for 256 ranks: no core is looked for among all others."""
    machine = synthetic("pack:16 numa:4 l3:4 core:8 pu:2")
    job = Job(NumaOptions("exclusive"), gpus="none", ranks=256, environment={})
    plan = plan_job(machine, job)
    start = time.process_time()
    text = picture_as_text(picture_of(machine, plan=plan))
    assert time.process_time() - start < 5
    assert max(map(len, text.split("\n"))) <= 80


# ---- text that foreign names are in ---------------------------------------------------------------------------


def test_nothing_in_a_drawing_acts_on_a_terminal() -> None:
    """A file's name can hold escape codes; they are shown and not obeyed."""
    machine = load_machine("dgx_h100")
    foul = type(machine)(
        **{**dict(zip(machine._fields, machine._values(), strict=True)), "source": "a\x1b]0;b\x07\n.xml"}
    )
    text = picture_as_text(picture_of(foul))
    assert text.startswith("a\\x1b]0;b\\x07\\n.xml\n")
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("one line", ["one line"]),
        ("two words and more", ["two words", "and more"]),
        ("CPUs 0-15,32-47,64-79", ["CPUs 0-15,", "32-47,", "64-79"]),
        ("0-15,32-47,64-79 of", ["0-15,", "32-47,", "64-79 of"]),
        ("/a/long/path/to.xml", ["/a/long/", "path/", "to.xml"]),
        ("", [""]),
        ("abcdefghijkl", ["abcdefghij", "kl"]),
    ],
)
def test_text_is_broken_at_spaces_and_lists_at_commas(text: str, lines: list[str]) -> None:
    """Nothing of it is lost."""
    broken = wrapped(text, 10)
    assert all(len(line) <= 10 for line in broken)
    assert broken == lines


# ---- colours -------------------------------------------------------------------------------------------------


def _luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.1)."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_text_on_every_colour_is_readable() -> None:
    """WCAG 2.1's contrast of 4.5 for text: on ranks' colours, and on paper in light and dark."""
    for colour in colours():
        assert _contrast(colour.red_green_blue, colour.text) >= 4.5
    for which in (0, 1):
        for paper in ("page", "outer", "inner"):
            for ink in ("ink", "faint"):
                assert _contrast(THEME[paper][which], THEME[ink][which]) >= 4.5


def test_colours_are_written_when_they_are_wanted() -> None:
    """Never with NO_COLOR, always with FORCE_COLOR, else to a terminal; the text is the same."""
    options = ("plan", "--topology", DGX, "--mode", "exclusive", "--draw")
    plain = run(*options).stdout
    assert "\x1b" not in plain
    forced = run(*options, FORCE_COLOR="1").stdout
    assert "\x1b[38;5;16;48;5;214m0000" in forced
    assert re.sub(r"\x1b\[[0-9;]*m", "", forced) == plain
    assert run(*options, FORCE_COLOR="1", NO_COLOR="1").stdout == plain


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_a_terminal_has_colours_and_a_width(variables: dict[str, str], coloured: bool) -> None:
    """On a real pseudo-terminal of 160 columns, which all are used; NO_COLOR and TERM=dumb turn colours off."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")
    }
    started = subprocess.Popen(
        [sys.executable, "-m", "hwnuma", "plan", "--topology", DGX, "--draw"], cwd=ROOT, stdout=side, stderr=side,
        env={**inherited, "TERM": "xterm-256color", **variables},
    )  # fmt: skip
    os.close(side)
    written = b""
    with contextlib.suppress(OSError):  # EIO: the other side is closed
        while True:
            written += os.read(main, 65536)
    os.close(main)
    assert started.wait() == 0
    assert (b"\x1b" in written) == coloured
    text = re.sub(r"\x1b\[[0-9;]*m", "", written.decode())
    assert any("package 0" in line and "package 1" in line for line in text.split("\n"))


def test_an_ascii_terminal_gets_ascii() -> None:
    """Boxes of - and |, and no traceback; what has no likeness is an escape."""
    options = ("plan", "--topology", DGX, "--mode", "exclusive", "--draw", "--reserve-cpus", "0")
    text = run(*options, PYTHONIOENCODING="ascii", LC_ALL="C").stdout
    assert text.isascii()
    assert "|0000|0000|1111|1111|" in text
    assert max(map(len, text.split("\n"))) <= 80
    for words in (("--help",), ("exec", "--help"), ("plan", "--help"), ("show", "--topology", GB200)):
        assert run(*words, PYTHONIOENCODING="ascii").stdout.isascii()


# ---- the command line ----------------------------------------------------------------------------------------


def test_columns_say_how_wide_a_drawing_is() -> None:
    """COLUMNS, as for every program; 80 without it."""
    assert max(map(len, run("show", "--topology", DGX, COLUMNS="200").stdout.split("\n"))) > 160
    assert max(map(len, run("show", "--topology", DGX).stdout.split("\n"))) <= 80


def test_show_as_json() -> None:
    """The whole machine and its GPUs, as data."""
    data = json.loads(run("show", "--topology", GB200, "--format", "json").stdout)
    assert data["schema"] == 1
    assert [package["cpuset"] for package in data["packages"]] == ["0-71", "72-143"]
    assert len(data["numa_nodes"]) == 34
    assert data["numa_nodes"][3] == {"node": 3, "cpuset": "", "near_cpuset": "0-71", "memory": None, "subtype": ""}
    assert [gpu["numa_node"] for gpu in data["gpus"]] == [0, 0, 1, 1]
    assert len(data["cores"]) == 144


def test_a_machine_from_standard_input_and_compressed(tmp_path: Path) -> None:
    """`--topology -`, .xml.gz and .xml.xz, told apart by what is in them."""
    document = Path(DGX).read_bytes()
    shown = run("show", "--topology", DGX).stdout.split("\n", 1)[1]  # below the file's name, which may take lines
    packed = zlib.compressobj(wbits=31)
    files = {"dgx.xml.gz": packed.compress(document) + packed.flush(), "dgx.xml.xz": lzma.compress(document)}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        assert run("show", "--topology", str(tmp_path / name)).stdout.endswith(f"{name}\n{shown}")
    for content in (document, *files.values()):
        done = subprocess.run(
            [sys.executable, "-m", "hwnuma", "show", "--topology", "-"], input=content, capture_output=True, check=True
        )
        assert done.stdout.decode().split("\n", 1) == ["standard input", shown]


def test_standard_input_that_is_empty_or_closed_is_told() -> None:
    """In one line each."""
    for shell, reason in (("< /dev/null", "standard input is empty"), ("<&-", "standard input is closed")):
        command = f"{sys.executable} -m hwnuma show --topology - {shell}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert reason in done.stderr


@pytest.mark.parametrize("name", ["a.xml.gz", "a.xml.xz"])
def test_a_damaged_or_huge_compressed_file_is_refused(name: str, tmp_path: Path) -> None:
    """One line that says which: cut short, damaged, or more than any topology."""
    pack = (
        (lambda data: zlib.compress(data, 1, wbits=31))
        if name.endswith("gz")
        else (lambda data: lzma.compress(data, preset=0))
    )
    whole = pack(Path(DGX).read_bytes())
    cases = {
        "cut short": whole[: len(whole) // 2],
        "damaged": whole[:40] + bytes([whole[40] ^ 0xFF, whole[41] ^ 0xFF]) + whole[42:],
        "larger than": pack(b" " * (65 << 20)),
    }
    for reason, content in cases.items():
        (tmp_path / name).write_bytes(content)
        error = run("show", "--topology", str(tmp_path / name), status=2).stderr
        assert error.count("\n") == 1
        assert reason in error
        assert name in error


@pytest.mark.parametrize(
    "words",
    [
        ("plan", "--draw", "--format", "json"), ("plan", "--compare", "all", "--format", "json"),
        ("show", "--output", "a.svg", "--format", "json"), ("topo", "--output", "a.svg", "--format", "json"),
    ],
)  # fmt: skip
def test_a_format_that_would_have_no_effect_is_refused(words: tuple[str, ...]) -> None:
    """In one line; and a plan's text may stand beside its file."""
    error = run(*words, "--topology", DGX, status=2).stderr
    assert "do not go together" in error
    assert error.count("\n") == 1


def test_a_plan_is_written_and_printed(tmp_path: Path) -> None:
    """`--output` with a `--format`: the file, and nothing but the text on standard output."""
    output = str(tmp_path / "plan.svg")
    printed = run("plan", "--topology", DGX, "--output", output, "--format", "taskset").stdout
    assert printed.startswith("taskset --cpu-list ")
    assert Path(output).read_text().startswith("<svg ")
    assert run("plan", "--topology", DGX, "--output", output).stdout == f"wrote {output}\n"


def test_drawing_costs_nothing_where_it_is_not_asked_for() -> None:
    """A plan as a table or as JSON imports no drawing, no help and no completion."""
    for options in (("--format", "json"), ()):
        command = ["-X", "importtime", "-m", "hwnuma", "plan", "--topology", DGX, *options]
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
        loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert "hwnuma.policy.planning" in loaded
        drawing = {"picture", "layout", "terminal", "palette", "svg", "html", "lstopo", "compare"}
        assert {f"hwnuma.report.{room}" for room in drawing} & loaded == set()
        assert {
            "shtab",
            "cairosvg",
            "hwnuma.cli.drawing",
            "hwnuma.cli.completion",
            "hwnuma.hwloc.annotate",
        } & loaded == set()


def test_a_plan_of_what_cannot_be_loaded_is_an_error_in_one_line() -> None:
    """`--draw` and `--output` fail as the table does."""
    for more in (["--draw"], ["--output", "a.svg"], ["--compare", "all"]):
        assert run("plan", "--topology", "missing.xml", *more, status=2).stderr.count("\n") == 1
    with Topology.from_xml_file(DGX) as topology:
        assert topology.machine().source == DGX


# ---- pictures in the documentation ---------------------------------------------------------------------------

_DGX = ("--topology", "fixtures/topologies/dgx_a100_nps4.xml")
PICTURES = {
    **{f"dgx_a100_{mode.value}": ("plan", *_DGX, "--mode", mode.value) for mode in AffinityMode},
    "dgx_h100_rails": (
        "plan", "--topology", "fixtures/topologies/dgx_h100.xml", "--mode", "exclusive", "--nics", "auto",
    ),
    "gb200": ("show", "--topology", "fixtures/topologies/gb200_nvl72_tray.xml"),
    "frontier": (
        "plan", "--topology", "fixtures/topologies/frontier_mi250x.xml", "--mode", "core-complex",
        "--reserve-first-cores",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
def test_the_pictures_in_the_documentation_are_what_is_drawn(
    name: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """docs/pictures; --update-golden draws them anew. Each is small, and names the command that drew it."""
    output = f"docs/pictures/{name}.svg"
    (tmp_path / "docs" / "pictures").mkdir(parents=True)
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")  # so that the command is that which a reader would give
    command = [sys.executable, "-m", "hwnuma", *PICTURES[name], "--output", output]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    drawn = (tmp_path / output).read_text()
    if pytestconfig.getoption("--update-golden"):
        (ROOT / output).write_text(drawn)
    assert drawn == (ROOT / output).read_text()
    assert len(drawn) < 40_000
    assert f"made by: hwnuma {' '.join(PICTURES[name])} --output {output}" in drawn
