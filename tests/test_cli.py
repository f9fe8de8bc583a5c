"""The command line as its users meet it: processes, exit statuses, one line for each mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hwnuma import CpuSet, Topology
from tests.conftest import TOPOLOGIES
from tests.forked import hwnuma

DGX = str(TOPOLOGIES / "dgx_a100_nps4.xml")
TWO_CPUS = len(os.sched_getaffinity(0)) >= 2


def run(*arguments: str, status: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in an environment without a launcher's or hwnuma's variables, and check its exit status.

    In a process that is forked, but where a variable is one that a Python reads as it starts.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HWNUMA_", "LOCAL_", "SLURM_", "CUDA_"))
    }
    done = hwnuma(arguments, inherited | environment)
    assert done.returncode == status, done.stderr
    return done


def plan(*arguments: str, status: int = 0, **environment: str) -> dict[str, Any]:
    """Run ``hwnuma plan --format json``."""
    return json.loads(run("plan", "--format", "json", *arguments, status=status, **environment).stdout)


def cpus_of(done: subprocess.CompletedProcess[str]) -> str:
    """The list that a bound ``grep Cpus_allowed_list /proc/self/status`` printed."""
    return done.stdout.split()[1]


GREP = ("grep", "Cpus_allowed_list", "/proc/self/status")


# ---- options of exec without a use -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "environment", "said"),
    [
        (("--cpus", "0", "--export-nics", "ucx"), {}, "--export-nics does nothing with --cpus"),
        (("--mode", "node", "--gpus", "none"), {"HWNUMA_CPUS": "0"},
         "HWNUMA_CPUS=0 is this rank's place, as it was planned already: --mode, --gpus on the command line does nothing"),
        (("--fallback", "unbound"), {"HWNUMA_CPUS": "0"}, ""),
    ],
)  # fmt: skip
def test_an_option_that_does_nothing_is_told(words: tuple[str, ...], environment: dict[str, str], said: str) -> None:
    """In one line; the command is bound and runs."""
    done = run("exec", *words, "--", *GREP, **environment)
    assert cpus_of(done) == "0"
    assert (said in done.stderr, done.stderr.count("\n")) == (True, bool(said))


# ---- plan ----------------------------------------------------------------------------------------------------


def test_the_plan_of_a_dgx_is_the_contracts() -> None:
    """The published machine, in exclusive mode: the cores of each node halved between its two GPUs."""
    data = plan("--topology", DGX, "--mode", "exclusive")
    assert [row["cpuset"] for row in data["bindings"]] == [
        "48-55,176-183", "56-63,184-191", "16-23,144-151", "24-31,152-159",
        "112-119,240-247", "120-127,248-255", "80-87,208-215", "88-95,216-223",
    ]  # fmt: skip
    assert (data["schema"], data["mode"], data["topology"]) == (1, "exclusive", DGX)
    assert data["allowed_cpuset"] == "0-255"
    assert data["bindings"][0] == {
        "local_rank": 0,
        "gpus": [{"index": 0, "pci_address": "0000:07:00.0", "uuid": None, "name": None}],
        "cpuset": "48-55,176-183",
        "nodeset": "3",
        "cores": 8,
        "locality": "hwloc",
        "memory": "none",
        "near_memory_nodes": "",
    }
    assert CpuSet(data["unused_cpuset"]) == CpuSet("0-255") - CpuSet(",".join(r["cpuset"] for r in data["bindings"]))


def test_core_complex_of_a_dgx() -> None:
    """One L3 for each GPU."""
    data = plan("--topology", DGX, "--mode", "core-complex")
    assert [row["cpuset"] for row in data["bindings"]][:3] == ["48-51,176-179", "52-55,180-183", "16-19,144-147"]


def test_half_a_machine_exits_with_1_and_whole_json() -> None:
    """Slurm gave one socket: its GPUs' ranks are placed, the others say why they are not."""
    data = plan("--topology", str(TOPOLOGIES / "slurm_cut_a100_pcie8.xml"), "--mode", "socket", status=1)
    assert [row["cpuset"] for row in data["bindings"][:4]] == ["0-15,56-71"] * 4
    assert [row["error"]["type"] for row in data["bindings"][4:]] == ["NoAllowedCpusError"] * 4
    assert all("cpuset" not in row for row in data["bindings"][4:])
    message = data["bindings"][4]["error"]["message"]
    assert "28-55,84-111" in message
    assert "0-15,56-71" in message


def test_the_nearest_cpus_are_taken_on_request() -> None:
    """With --fallback nearest the other four ranks get the CPUs that are allowed."""
    data = plan("--topology", str(TOPOLOGIES / "slurm_cut_a100_pcie8.xml"), "--fallback", "nearest")
    assert {row["cpuset"] for row in data["bindings"]} == {"0-15,56-71"}
    assert [row["locality"] for row in data["bindings"]] == ["hwloc"] * 4 + ["nearest"] * 4


def test_the_table_never_cuts_a_set() -> None:
    """Every CPU set of a plan stands whole in the table, however narrow the terminal is."""
    table = run("plan", "--topology", DGX, "--mode", "socket", COLUMNS="20").stdout
    assert table.count("64-127,192-255") >= 4
    assert "PCI address" in table
    assert "0000:bd:00.0" in table


def test_a_synthetic_machine_without_gpus() -> None:
    """Ranks are spread over nodes and cores, with the modes' own meaning."""
    machine = ("--synthetic", "pack:2 numa:1 l3:2 core:4 pu:2", "--gpus", "none", "--ranks", "4")
    expected = {
        "node": ["0-15", "0-15", "16-31", "16-31"],
        "socket": ["0-15", "0-15", "16-31", "16-31"],
        "exclusive": ["0-7", "8-15", "16-23", "24-31"],
        "core-complex": ["0-7", "8-15", "16-23", "24-31"],
    }
    for mode, sets in expected.items():
        assert [row["cpuset"] for row in plan(*machine, "--mode", mode)["bindings"]] == sets


def test_options_come_from_the_environment_too() -> None:
    """HWNUMA_MODE is --mode, and the command line precedes it."""
    assert plan("--topology", DGX, HWNUMA_MODE="socket")["mode"] == "socket"
    assert plan("--topology", DGX, "--mode", "node", HWNUMA_MODE="socket")["mode"] == "node"


def test_another_machines_plan_ignores_what_is_visible_here() -> None:
    """CUDA_VISIBLE_DEVICES is about this machine's GPUs."""
    assert len(plan("--topology", DGX, CUDA_VISIBLE_DEVICES="0")["bindings"]) == 8


def test_allowed_cpus_can_be_supposed() -> None:
    """What if the scheduler gave only these? Sets are cut to them, and never widened."""
    data = plan("--topology", DGX, "--mode", "node", "--allowed-cpus", "0-63", status=1)
    assert data["bindings"][0]["cpuset"] == "48-63"
    assert data["bindings"][4]["error"]["type"] == "NoAllowedCpusError"


def test_devices_by_address_in_rank_order() -> None:
    """Any device of the topology, in the order given, the same one twice if two ranks share it."""
    data = plan("--topology", DGX, "--gpus", "0000:bd:00.0,0000:07:00.0,0000:07:00.0", "--mode", "exclusive")
    assert [row["cpuset"] for row in data["bindings"]] == ["80-95,208-223", "48-55,176-183", "56-63,184-191"]


@pytest.mark.parametrize(
    ("arguments", "sets"),
    [
        (["--ranks-per-gpu", "2"], ["48-51,176-179", "52-55,180-183", "56-59,184-187", "60-63,188-191"]),
        (["--gpus-per-rank", "2"], ["48-63,176-191", "16-31,144-159", "112-127,240-255", "80-95,208-223"]),
        (["--threads-per-core", "1"], ["48-55", "56-63", "16-23", "24-31"]),
        (["--reserve-cpus", "48-49,176-177"], ["50-56,178-184", "57-63,185-191", "16-23,144-151"]),
        (["--ranks", "2"], ["48-55,176-183", "56-63,184-191"]),
        (["--use-idle-nodes"], ["32-39,48-55,160-167,176-183", "40-47,56-63,168-175,184-191"]),
    ],
)
def test_options_that_torch_does_not_have(arguments: list[str], sets: list[str]) -> None:
    """Several ranks a GPU, several GPUs a rank, one thread a core, reserved CPUs, fewer ranks, idle nodes."""
    data = plan("--topology", DGX, "--mode", "exclusive", *arguments)
    assert [row["cpuset"] for row in data["bindings"]][: len(sets)] == sets


def test_the_first_core_of_each_cache_can_be_kept_back() -> None:
    """Frontier's own way: one core of each L3 is left to the system."""
    machine = ("--topology", str(TOPOLOGIES / "frontier_mi250x.xml"), "--mode", "core-complex", "--reserve-first-cores")
    data = plan(*machine)
    assert data["bindings"][0]["cpuset"] == "49-55,113-119"
    assert CpuSet(data["unused_cpuset"]) == CpuSet("0,8,16,24,32,40,48,56,64,72,80,88,96,104,112,120")


def test_too_few_cores_are_refused_on_request() -> None:
    """A rank that would get fewer cores than asked for is not placed."""
    data = plan("--topology", DGX, "--mode", "core-complex", "--minimum-cores", "5", status=1)
    assert {row["error"]["type"] for row in data["bindings"]} == {"NotEnoughCoresError"}


# ---- bad input: one line, its exit status, no traceback ------------------------------------------------------


BAD = [
    (["plan", "--topology", "/nowhere.xml"], 2, "cannot read the topology file /nowhere.xml: No such file"),
    (["plan", "--topology", "/dev/null"], 2, "it is a character device, and only a regular file is read"),
    (["plan", "--topology", __file__], 2, "not well-formed XML"),
    (["plan", "--synthetic", "nonsense"], 2, "synthetic"),
    (["plan", "--topology", DGX, "--synthetic", "pu:2"], 2, "not allowed with"),
    (["plan", "--topology", DGX, "--mode", "numa"], 2, "--mode: 'numa' is no affinity mode: choose one of node"),
    (["plan", "--topology", DGX, "--ranks", "0"], 2, "0 ranks cannot be planned"),
    (["plan", "--topology", DGX, "--ranks", "9"], 2, "9 ranks are more than 8 GPUs take"),
    (["plan", "--topology", DGX, "--ranks", "two"], 2, "'two' is no whole number"),
    (["plan", "--gpus", "none"], 2, "--ranks N"),
    (["plan", "--topology", DGX, "--gpus", "amd"], 2, "no amd GPU"),
    (["plan", "--topology", DGX, "--gpus", "0000:ff:00.0"], 2, "no PCI device 0000:ff:00.0"),
    (["plan", "--topology", DGX, "--gpus", "nvml"], 2, "NVML tells of this system's GPUs"),
    (["plan", "--topology", DGX, "--gpus", "voodoo"], 2, "'voodoo' names no GPUs"),
    (["plan", "--topology", DGX, "--gpu-node", "0=x"], 2, "is not GPU=NODE"),
    (["plan", "--topology", DGX, "--gpu-node", "12=1"], 2, "GPU 12"),
    (["plan", "--topology", DGX, "--nccl-topo", "/nowhere.xml"], 2, "NCCL topology file /nowhere.xml"),
    (["plan", "--topology", DGX, "--allowed-cpus", "x"], 2, "is no CPU list"),
    (["plan", "--topology", DGX, "--reserve-cpus", "3-1"], 2, "reversed"),
    (["plan", "--wrong"], 2, "unrecognized arguments: --wrong"),
    (["nothing"], 2, "invalid choice"),
    (["exec", "--gpus", "none", "--ranks", "1", "--local-rank", "0"], 2, "no command"),
    (["exec", "--mode", "x", "true"], 2, "no affinity mode"),
    (["exec", "--gpus", "none", "--ranks", "2", "true"], 2, "local rank is not known"),
    (["exec", "--gpus", "none", "--ranks", "2", "--local-rank", "2", "true"], 2, "2 ranks"),
    (["exec", "--gpus", "none", "--local-rank", "0", "true"], 2, "number of ranks"),
    (["exec", "--cpus", "4000-4001", "true"], 1, "4000-4001"),
    (["exec", "--", "hwnuma-no-such-command"], 127, "command not found"),
    (["exec", "--", "/hwnuma/no/such/command"], 127, "command not found"),
    (["exec", "--", "/etc/passwd"], 126, "not an executable"),
    (["exec", "--", "/etc"], 126, "not an executable"),
    (["capture", "/nowhere/at/all.xml"], 2, "cannot write /nowhere/at/all.xml"),
]


@pytest.mark.parametrize(
    ("arguments", "status", "reason"), BAD, ids=lambda value: " ".join(value)[-60:] if isinstance(value, list) else ""
)
def test_a_mistake_is_one_clear_line(arguments: list[str], status: int, reason: str) -> None:
    """Nothing on standard output, one line on standard error, the contract's exit status, no traceback."""
    done = run(*arguments, status=status)
    assert done.stdout == ""
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("hwnuma")


def test_a_bad_variable_is_told_by_its_name() -> None:
    """The value came from the environment, so the message names the variable."""
    assert run("plan", "--topology", DGX, status=2, HWNUMA_MODE="x").stderr.startswith("hwnuma plan: HWNUMA_MODE: 'x'")


def test_without_gpus_every_attempt_is_told() -> None:
    """Neither NVML nor the topology has a GPU here: both say why, and the way out is named."""
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has an NVIDIA GPU")
    error = run("plan", status=2).stderr
    assert "NVML" in error
    assert "PCI devices of this system" in error
    assert "--gpus none --ranks N" in error


# ---- exec ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not TWO_CPUS, reason="this process may use one CPU only, and two ranks need two")
def test_exec_binds_each_rank_to_cpus_of_its_own() -> None:
    """Two ranks in exclusive mode: the kernel shows two different sets, those of the plan."""
    options = ("--gpus", "none", "--ranks", "2", "--mode", "exclusive")
    planned = [row["cpuset"] for row in plan(*options)["bindings"]]
    found = [cpus_of(run("exec", *options, "--local-rank", str(rank), "--", *GREP)) for rank in (0, 1)]
    assert found == planned
    assert CpuSet(found[0]).isdisjoint(CpuSet(found[1]))


@pytest.mark.parametrize("separator", [["--"], []])
def test_exec_takes_a_command_with_and_without_separator(separator: list[str]) -> None:
    """Torchrun swallows a ``--``; the command's own options stay its own."""
    done = run(
        "exec", "--gpus=none", "--ranks", "1", "--local-rank", "0", *separator, "sh", "-c", 'echo "$0" --mode x', "-"
    )
    assert done.stdout == "- --mode x\n"


def test_exec_passes_on_everything() -> None:
    """Process id, exit status, standard input, both outputs and the environment are the command's own."""
    script = "import os,sys; print(os.getpid(), os.environ['GREETING'], sys.stdin.read()); sys.exit(37)"
    started = subprocess.Popen(
        [sys.executable, "-m", "hwnuma", "exec", "--cpus", "0", "--", sys.executable, "-c", script],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"GREETING": "hello"},
    )  # fmt: skip
    out, _ = started.communicate("input", timeout=60)
    assert out.split() == [str(started.pid), "hello", "input"]
    assert started.returncode == 37


def test_exec_reads_the_launchers_rank() -> None:
    """The rank and the number of ranks come from torchrun's variables."""
    done = run("exec", "--gpus", "none", "--mode", "exclusive", *GREP, LOCAL_RANK="0", LOCAL_WORLD_SIZE="1")
    assert CpuSet(cpus_of(done)) == os.sched_getaffinity(0)


def test_exec_falls_back_on_request_only() -> None:
    """A rank that cannot be placed: exit status and no command; with --fallback a warning, and the command unbound."""
    wrong = ("exec", "--gpus", "amd", "--local-rank", "0")
    assert "no amd GPU" in run(*wrong, *GREP, status=2).stderr
    done = run(*wrong, "--fallback", *GREP)
    assert CpuSet(cpus_of(done)) == os.sched_getaffinity(0)
    assert "running unbound, as asked: no amd GPU" in done.stderr
    assert CpuSet(cpus_of(run(*wrong, *GREP, HWNUMA_FALLBACK="1"))) == os.sched_getaffinity(0)


def test_exec_binds_through_a_saved_file_of_this_machine(tmp_path: Path) -> None:
    """Libhwloc's own variables let a process skip the discovery: a captured XML, declared to be this system."""
    saved = tmp_path / "here.xml"
    run("capture", str(saved))
    planned = ("exec", "--gpus", "none", "--ranks", "1", "--local-rank", "0", "--reserve-cpus", "1-8191", *GREP)
    assert cpus_of(run(*planned, HWLOC_XMLFILE=str(saved), HWLOC_THISSYSTEM="1")) == "0"
    assert "cannot bind through" in run(*planned, status=2, HWLOC_XMLFILE=str(saved)).stderr


def test_exec_to_given_cpus_does_not_read_a_topology(tmp_path: Path) -> None:
    """What a launcher has planned needs no discovery: what libhwloc's variables name is not read."""
    done = run("exec", "--cpus", "0", *GREP, HWLOC_XMLFILE=str(tmp_path / "missing.xml"))
    assert cpus_of(done) == "0"


# ---- show, gpus, capture -------------------------------------------------------------------------------------


def test_show_draws_every_node_and_gpu() -> None:
    """Packages, nodes with their CPUs, caches and GPUs, and the nodes of memory alone."""
    drawn = run("show", "--topology", str(TOPOLOGIES / "gb200_nvl72_tray.xml")).stdout
    assert "package 1" in drawn
    assert "node 1  CPUs 72-143" in drawn
    assert "GPU 3  0018:" in drawn or "GPU 3  0019:" in drawn
    assert "no CPUs, near 0-71" in drawn
    assert "GPUMemory" in drawn


def test_show_draws_this_machine_without_gpus() -> None:
    """A machine without a GPU is drawn all the same."""
    assert "package" in run("show").stdout


def test_gpus_say_where_each_locality_comes_from() -> None:
    """Known from libhwloc, stated by somebody, or unknown with the remedies and exit status 1."""
    known = json.loads(run("gpus", "--format", "json", "--topology", DGX, "--gpu-node", "1=0").stdout)
    assert [(gpu["numa_node"], gpu["locality"]) for gpu in known["gpus"][:3]] == [
        (3, "hwloc"),
        (0, "given"),
        (1, "hwloc"),
    ]
    unknown = run("gpus", "--topology", str(TOPOLOGIES / "aws_g5_48xlarge.xml"), status=1).stdout
    assert "--gpu-node" in unknown
    assert "--nccl-topo" in unknown


def test_capture_saves_a_machine_that_plans_the_same(tmp_path: Path) -> None:
    """The saved file is this machine: planned elsewhere, the answer is the same."""
    saved = tmp_path / "here.xml"
    run("capture", str(saved))
    options = ("--gpus", "none", "--ranks", "1")
    here, there = plan(*options), plan(*options, "--topology", str(saved))
    assert [row["cpuset"] for row in here["bindings"]] == [row["cpuset"] for row in there["bindings"]]
    with Topology.from_xml_buffer(run("capture", "-").stdout) as topology:
        assert topology.machine().cpuset == CpuSet(Path("/sys/devices/system/cpu/online").read_text())


def test_version_names_libhwloc() -> None:
    """Both versions matter for a report."""
    assert run("--version").stdout.startswith("hwnuma 0.")
    assert "libhwloc 2." in run("--version").stdout


def test_a_closed_pipe_is_no_error() -> None:
    """``hwnuma plan | head -1`` ends quietly."""
    command = f"{sys.executable} -m hwnuma show --topology {DGX} | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [("show",), ("exec", "--cpus", "0", "--", "true"), ("--version",)])
def test_a_libhwloc_that_cannot_be_loaded_is_told_in_a_line(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """No traceback, from whichever module meets it first."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['hwnuma.hwloc._hwloc'] = None\n")
    [line] = run(*arguments, status=2, PYTHONPATH=str(tmp_path)).stderr.splitlines()
    assert line.startswith("hwnuma: hwnuma's extension module cannot be loaded")


@pytest.mark.parametrize("words", [(), ("--topology", DGX), ("--facts", "file.xml"), ("--topology", DGX, "file.xml")])
def test_a_capture_needs_a_file_or_is_of_facts(words: tuple[str, ...]) -> None:
    """One of both; a saved topology has nothing but its facts."""
    assert "name a file to save the machine in, or say --facts" in run("capture", *words, status=2).stderr
