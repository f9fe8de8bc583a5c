"""How near devices are: the bridges' arithmetic, published matrices beside ours, and hwnuma topo."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hwnuma import NodeSet, Topology, TopologyGpus
from hwnuma.model.bitmap import CpuSet
from hwnuma.model.machine import PciDevice
from hwnuma.policy.nearness import Nearness, nearness, nearness_of_all, tells_bridges
from tests.conftest import ROOT, TOPOLOGIES, load_machine
from tests.every_machine import MACHINES
from tests.fake_nvml import FakeGpu, FakeNvml, compiler
from tests.require import require
from tests.test_cli import run

# Other people's files, beside the repository.
CORPUS = ROOT.parent / "shared" / "corpus"


def corpus(name: str) -> Path:
    """A file of the corpus; the test is skipped where that is not."""
    if not CORPUS.is_dir():
        pytest.skip(f"other people's files are not in {CORPUS}")
    return CORPUS / name


HOST, OTHER_HOST = "host 0000:00", "host 0000:40"


def _device(address: str, *bridges: str, nodes: str = "0") -> PciDevice:
    return PciDevice(address, 0, 0, 0, "Package", CpuSet("0-3"), NodeSet(nodes), bridges=bridges)


def test_a_distance_is_the_place_of_its_word() -> None:
    """What docs/explanation/rails.md says: `balance` compares sums of these."""
    assert [f"{word} {int(word)}" for word in Nearness] == ["X 0", "PIX 1", "PXB 2", "PHB 3", "NODE 4", "SYS 5"]


@pytest.mark.parametrize(
    ("one", "other", "word"),
    [
        (_device("a"), _device("a"), "X"),
        (_device("a", "port", HOST), _device("b", "port", HOST), "PIX"),  # two functions of one card
        (_device("a", "p1", "up", "root", HOST), _device("b", "p2", "up", "root", HOST), "PIX"),  # one switch
        (_device("a", "p1", "up", "root", HOST), _device("b", "p3", "p2", "up", "root", HOST), "PXB"),
        (_device("a", "p1", "up1", "root", HOST), _device("b", "p2", "up2", "root", HOST), "PXB"),  # two switches
        (_device("a", "root1", HOST), _device("b", "root2", HOST), "PHB"),
        (_device("a", HOST), _device("b", "p", "up", "root", HOST), "PHB"),
        (_device("a", "root", HOST), _device("b", "root2", OTHER_HOST), "NODE"),
        (_device("a", "root", HOST), _device("b", "root2", OTHER_HOST, nodes="1"), "SYS"),
        (_device("a"), _device("b"), "NODE"),  # no bridge is told
        (_device("a"), _device("b", nodes="0-1"), "SYS"),
    ],
)
def test_the_word_of_two_devices(one: PciDevice, other: PciDevice, word: str) -> None:
    """By their lowest common bridge, and by how many more are below it on the longer side; both ways alike."""
    assert str(nearness(one, other)) == word
    assert str(nearness(other, one)) == word
    assert nearness_of_all([one], [other]) == nearness_of_all([other], [one]) == [[nearness(one, other)]]


@pytest.mark.parametrize("name", MACHINES)
def test_all_at_once_is_each_by_itself(name: str) -> None:
    """The matrix of a whole machine says of each pair what the pair alone does; it is symmetric, with X on the diagonal."""
    devices = load_machine(name).pci_devices
    matrix = nearness_of_all(devices, devices[::-1])
    assert matrix == [[nearness(one, other) for other in reversed(devices)] for one in devices]
    assert [row[-1 - place] for place, row in enumerate(matrix)] == [Nearness.X] * len(devices)


# ---- published matrices ----------------------------------------------------------------------------------------

# Rows of nvidia-smi topo -m, GPUs against NICs only: the words between GPUs are NVLink's there.
PUBLISHED = {
    # NVIDIA/nccl#1505 (NPS4): NIC0 to NIC11.
    "dgx_a100_nps4": {
        0: "PXB PXB SYS SYS SYS SYS SYS SYS SYS SYS SYS SYS",
        1: "PXB PXB SYS SYS SYS SYS SYS SYS SYS SYS SYS SYS",
        2: "SYS SYS PXB PXB SYS SYS SYS SYS SYS SYS SYS SYS",
        3: "SYS SYS PXB PXB SYS SYS SYS SYS SYS SYS SYS SYS",
        4: "SYS SYS SYS SYS SYS SYS PXB PXB SYS SYS SYS SYS",
    },
    # bytedance/flux#14: this driver says SYS between host bridges of one socket, where others (vllm-project/vllm#16336,
    # and its own legend) say NODE.
    "dgx_h100": {
        5: "SYS SYS SYS SYS SYS SYS SYS SYS SYS PXB SYS SYS",
        6: "SYS SYS SYS SYS SYS SYS SYS SYS SYS SYS PXB SYS",
        7: "SYS SYS SYS SYS SYS SYS SYS SYS SYS SYS SYS PXB",
    },
    # NVIDIA/nccl#2150: bonded NICs.
    "hgx_h100_roce_bond": {
        0: "PXB NODE NODE NODE SYS SYS SYS SYS",
        1: "NODE PXB NODE NODE SYS SYS SYS SYS",
        2: "NODE NODE PXB NODE SYS SYS SYS SYS",
        4: "SYS SYS SYS SYS PXB NODE NODE NODE",
        5: "SYS SYS SYS SYS NODE PXB NODE NODE",
    },
    # sgl-project/sglang#11208: again SYS within a socket.
    "gb200_nvl72_tray": {0: "SYS SYS SYS SYS SYS SYS", 2: "SYS SYS SYS SYS SYS SYS"},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_matrix(name: str) -> None:
    """Our words are those that nvidia-smi printed on such a machine, but that some drivers say SYS for NODE."""
    data = json.loads(run("topo", "--topology", str(TOPOLOGIES / f"{name}.xml"), "--format", "json").stdout)
    gpus = sum(device["kind"] == "gpu" for device in data["devices"])
    for gpu, row in PUBLISHED[name].items():
        published, ours = row.split(), data["paths"][gpu][gpus:]
        says_sys = name in ("dgx_h100", "gb200_nvl72_tray")
        assert ["SYS" if says_sys and word == "NODE" else word for word in ours][: len(published)] == published


def test_a_published_file_without_cpus() -> None:
    """AWS's p5en: four EFA and two GPUs at each PCI switch. It cannot be planned on, and topo reads it all the same."""
    path = corpus("xml/ai-dynamo__nixl__p5en.48xl-topo.xml")
    assert "has no PU" in run("plan", "--topology", str(path), status=2).stderr
    data = json.loads(run("topo", "--topology", str(path), "--format", "json").stdout)
    names = [device["name"] for device in data["devices"]]
    assert (data["schema"], len(names)) == (1, 24)
    assert [[names[place] for place, word in enumerate(row) if word == "PIX" and place > 7] for row in data["paths"][:3]] == [
        ["rdmap85s0", "rdmap86s0", "rdmap87s0", "rdmap88s0"],
        ["rdmap85s0", "rdmap86s0", "rdmap87s0", "rdmap88s0"],
        ["rdmap110s0", "rdmap111s0", "rdmap112s0", "rdmap113s0"],
    ]  # fmt: skip
    made = json.loads(run("topo", "--topology", str(TOPOLOGIES / "aws_p5en_48xlarge.xml"), "--format", "json").stdout)
    assert made["paths"] == data["paths"]


def test_a_published_file_of_four_gpus() -> None:
    """EPYC Turin with four H200, each behind its NIC's own switch: PXB, and SYS to the others in NPS4."""
    text = run("topo", "--topology", str(corpus("xml/openpmix__prrte__turin-4gpu.xml"))).stdout
    assert re.search(r"^GPU0 +X +SYS +SYS +SYS +PXB +SYS +SYS +SYS +SYS +SYS$", text, re.MULTILINE)
    assert re.search(r"^GPU3 +SYS +SYS +SYS +X +SYS +SYS +SYS +SYS +SYS +PXB$", text, re.MULTILINE)
    assert "NIC3: mlx5_3  0000:13:00.0" in text


# ---- hwnuma topo -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dgx_h100", "oci_bm_gpu_h100_8", "frontier_mi250x", "epyc7763_nps4_smt1"])
def test_the_matrix_folds_into_80_columns(name: str) -> None:
    """However many devices there are; every device has its affinity, and every NIC its name."""
    text = run("topo", "--topology", str(TOPOLOGIES / f"{name}.xml")).stdout
    assert max(map(len, text.splitlines())) <= 80
    machine = load_machine(name)
    assert text.count("CPU Affinity") == 1
    assert all(f": {nic.name}  {nic.pci_address}" in text for nic in machine.nics)
    rows = [line for line in text.splitlines() if line.startswith("GPU0 ")]
    words = [word for row in rows[:-1] for word in row.split()[1:]]
    assert len(words) == len(TopologyGpus(machine).gpus()) + len(machine.nics)


def test_a_machine_without_devices() -> None:
    """Says so, and is no error; nor is one without GPUs, unless some were named."""
    done = run("topo", "--synthetic", "pack:2 numa:1 core:2 pu:1")
    assert "no GPUs and no NICs are known" in done.stdout
    assert run("topo", "--synthetic", "pu:2", "--gpus", "nvidia", status=2).stderr.startswith(
        "hwnuma topo: no nvidia GPU"
    )


def _without_bridges(name: str, tmp_path: Path) -> Path:
    """The same topology as libhwloc saves it where bridges were left out of it."""
    text = (TOPOLOGIES / f"{name}.xml").read_text()
    lines, dropped = [], []
    for line in text.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        if '<object type="Bridge"' in line:
            dropped.append(f"{indent}</object>")
        elif dropped and line == dropped[-1]:
            dropped.pop()
        else:
            lines.append(line)
    path = tmp_path / "without_bridges.xml"
    path.write_text("\n".join(lines))
    return path


def test_a_file_without_bridges_says_so(tmp_path: Path) -> None:
    """Then nothing is nearer than NODE."""
    path = _without_bridges("dgx_h100", tmp_path)
    with Topology.from_xml_file(path) as topology:
        assert not tells_bridges(topology.machine())
    data = json.loads(run("topo", "--topology", str(path), "--format", "json").stdout)
    assert {word for row in data["paths"] for word in row} == {"X", "NODE", "SYS"}
    assert "tells no PCI bridges" in data["notes"][0]
    planned = json.loads(run("plan", "--topology", str(path), "--nics", "auto", "--format", "json").stdout)
    assert [row["nics"][0]["path"] for row in planned["bindings"]] == ["NODE"] * 8
    assert len({row["nics"][0]["name"] for row in planned["bindings"]}) == 8
    assert any("tells no PCI bridges" in warning for warning in planned["warnings"])


def test_nvlinks_are_known_from_the_driver(tmp_path: Path) -> None:
    """Direct links count to their GPU; links to switches to every GPU that has some, as many as the fewer."""
    require(compiler(), "no C compiler")
    addresses = [gpu.pci_address for gpu in TopologyGpus(load_machine("dgx1_v100")).gpus()][:4]
    links: list[dict[str, int]] = [
        {f"0000{addresses[1]}": 2, "switch": 4},
        {f"0000{addresses[0]}": 2},
        {"switch": 3},
        {},
    ]
    fake = FakeNvml([FakeGpu(f"0000{address}", nvlinks=its) for address, its in zip(addresses, links, strict=True)])
    code = "from hwnuma.devices.nvml import NvmlGpus; print(sorted(NvmlGpus().nvlinks().items()))"
    done = fake_run(fake, tmp_path, "-c", code)
    one, two, three, _ = addresses
    assert done == str(sorted({(one, two): 2, (two, one): 2, (one, three): 3, (three, one): 3}.items()))


def fake_run(fake: FakeNvml, tmp_path: Path, *words: str) -> str:
    """What Python prints in a process that sees a fake NVML."""
    done = subprocess.run([sys.executable, *words], env=fake.env(tmp_path), capture_output=True, text=True, check=True)
    return done.stdout.strip()
