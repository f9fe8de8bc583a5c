"""hwnuma on Arm (GH200, GB200, Vera): the wheel, and real tests in a Debian for arm64, in two ways.

Programs alone are emulated by QEMU's user emulation, on this machine's kernel and its CPUs. A whole machine is emulated,
too, that is to an Arm kernel what a GB200 is (`tests.vm.machines.GRACE`): there the wheel plans, binds and verifies. What
tests ask of a kernel (CPUs, processes, memory policies) they ask in another such machine: user emulation has no mbind,
set_mempolicy and get_mempolicy.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cffi_build.backend import CARRIED_REQUIREMENTS
from tests.packaging.tools import ROOT, pip
from tests.platforms.roots import PLAIN, Root, compile_all, emulated, make_root
from tests.require import require
from tests.vm import lab, qemu_arm, test_kernel, test_plan, test_topology
from tests.vm.conftest import Guest
from tests.vm.guest_checks import MODES
from tests.vm.machines import ARM_SINGLE, GRACE, Machine

# What plans, and what reads of machines: all that needs no kernel of its own.
TESTS = (
    "tests/test_bitmap.py", "tests/test_topology.py", "tests/test_options.py", "tests/test_formats.py",
    "tests/test_gpus.py", "tests/test_placement.py", "tests/test_facts.py", "tests/test_consistency.py",
    "tests/test_golden.py", "tests/test_locality.py", "tests/test_nearness.py", "tests/test_policy.py",
    "tests/test_visible.py", "tests/test_rails.py",
)  # fmt: skip
# What binds, starts processes and looks at them.
GUEST_TESTS = (
    "tests/test_binding.py", "tests/test_self_binding.py", "tests/test_memory.py", "tests/test_launch.py",
    "tests/test_bound.py", "tests/test_places.py", "tests/test_execute.py", "tests/test_verify.py",
    "tests/test_cli.py", "tests/test_option_table.py",
)  # fmt: skip

# By name, what is not run where all is emulated, and why.
NOT_EMULATED = {
    "tests/test_bitmap.py::test_what_a_list_can_cost_is_bounded_by_its_length": "bounds the CPU time of a list",
}
NOT_IN_GUEST = {
    "tests/test_binding.py::test_threads_that_start_while_binding_are_caught": "four threads start threads without end, "
    "and one CPU of this machine is all CPUs of the guest: it does not get to the end within its two minutes",
    "tests/test_memory.py::test_a_threads_policy_costs_no_walk_of_the_heap": "compares two times",
}

_PLATFORMS = [f"--platform=manylinux_2_{minor}_aarch64" for minor in (17, 28)]
# A kernel for guests, the program that they begin with, and what tests start there.
_GUEST_PACKAGES = ("linux-image-arm64", "busybox-static", "bash", "libtinfo6")
_SECTIONS = ("kernel", "topology", "plan", "exec", "memory", "memory-alone", "tables", "capture", "plans")
_GUEST_TIMEOUT = 2400.0


@pytest.fixture(scope="module")
def arm(root_folder: Path) -> Iterator[Root]:
    """A root file system of Debian for arm64."""
    root = make_root(root_folder / "arm64", "trixie", "arm64", _GUEST_PACKAGES)
    options = ["--upgrade", "--only-binary=:all:", *_PLATFORMS, "--python-version=3.13", "--target", root.packages]
    pip("install", "--quiet", *options, "auditwheel", *CARRIED_REQUIREMENTS)
    compile_all(root)
    with emulated("aarch64"):
        yield root


@pytest.fixture(scope="module")
def wheel(arm: Root) -> Path:
    """The self-contained wheel, built there by its one command, and unpacked over the source that the tests run in."""
    path = f"/{(arm.packages / 'bin').relative_to(arm.folder)}:/usr/bin"
    command = ("python3", "-m", "cffi_build.wheel", "--no-build-isolation", "--output", "/tmp/wheel")
    arm.output(*command, PATH=path)
    [wheel] = arm.folder.glob("tmp/wheel/*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(arm.source)
    compile_all(arm)
    return wheel


def _in_guest(machine: Machine, arm: Root, *command: str, out: Path | None = None) -> lab.Result:
    """Run a command in hwnuma's folder on a machine that is emulated whole, whose files are the root's."""
    there = shutil.which(qemu_arm.PROGRAM) and qemu_arm.FIRMWARE.is_file()
    require(there, f"{qemu_arm.PROGRAM} or its firmware is not installed (tests/platforms/setup)")
    [kernel] = arm.folder.glob("boot/vmlinuz-*")
    [modules] = arm.folder.glob("usr/lib/modules/*")
    files = lab.Files(kernel=kernel, modules=modules, busybox=arm.folder / "usr/bin/busybox", root=arm.folder)
    folder = Path("/") / arm.source.relative_to(arm.folder)
    return lab.run(machine, command, files=files, folder=folder, environment=PLAIN, timeout=_GUEST_TIMEOUT, out=out)


@pytest.fixture(scope="module")
def grace(arm: Root, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Guest:  # noqa: ARG001
    """What the kernel and the wheel's hwnuma say in a machine like a GB200."""
    out = tmp_path_factory.mktemp("grace")
    gpus = ",".join(GRACE.display_addresses())
    told = _in_guest(GRACE, arm, "python3", "-m", "tests.vm.guest_checks", "--gpus", gpus, *_SECTIONS, out=out)
    assert told.status == 0, told.stderr
    print(f"\ngrace: up in {told.boot_seconds:.0f} s, {told.seconds:.0f} s in all")
    return Guest(GRACE, out, json.loads(told.stdout))


def test_wheel(wheel: Path) -> None:
    """It is tagged for any Python from 3.10 on, and for aarch64."""
    print(f"\n{wheel.name}")
    assert wheel.name.startswith("hwnuma-")
    _, python, abi, platform = wheel.stem.rsplit("-", 3)
    assert (python, abi) == ("cp310", "abi3")
    assert platform.endswith("_aarch64")


@pytest.mark.parametrize(
    "holds",
    [
        test_kernel.test_online_cpus,
        test_kernel.test_allowed,
        test_kernel.test_packages,
        test_kernel.test_cores,
        test_kernel.test_last_level_caches,
        test_kernel.test_node_cpus,
        test_kernel.test_memory_nodes,
        test_kernel.test_distances,
        test_kernel.test_display_nodes,
        test_kernel.test_display_local_cpus,
        test_topology.test_is_this_system,
        test_topology.test_distances,
        test_topology.test_cpus_near_displays,
        test_plan.test_exec_binds_as_planned,
        test_plan.test_captured_machine_gives_the_same_plan,
        test_plan.test_the_plan_outside_is_the_plan_inside,
    ],
    ids=lambda holds: holds.__name__.removeprefix("test_"),
)
def test_grace(grace: Guest, holds: Callable[[Guest], None]) -> None:
    """What holds in every guest of tests/vm does in this one: of the kernel, of hwnuma, and, here, of its capture."""
    holds(grace)


@pytest.mark.parametrize("fact", test_topology.FACTS)
def test_topology_on_grace(grace: Guest, fact: str) -> None:
    """Hwnuma has each fact as the kernel has it, nodes without CPUs and without memory among the others."""
    test_topology.test_topology_equals_the_kernels(grace, fact)


@pytest.mark.parametrize("mode", MODES)
def test_plan_on_grace(grace: Guest, mode: str) -> None:
    """Each rank gets its CPUs in each mode, as worked out by hand, and `hwnuma plan` prints what the page on it shows."""
    printed = grace.section("tables")[mode]
    print(f"\n{printed}")
    test_plan.test_plan(grace, mode)
    shown = (ROOT / "docs/developers/building.md").read_text(encoding="utf-8")
    assert f"$ hwnuma plan --gpus $GPUS --mode {mode}\n{printed}" in shown


def test_memory_near_gpus_on_grace(grace: Guest) -> None:
    """The displays' memory, and their empty nodes, are named near their ranks, which libhwloc alone would not tell."""
    [plan] = [json.loads(text) for words, text in grace.section("plans").items() if words == "--mode node"]
    assert [rank["near_memory_nodes"] for rank in plan["bindings"]] == ["2-7", "2-7", "8-13", "8-13"]


def test_binding_on_grace(grace: Guest) -> None:
    """In the kernel's words: policies and pages of what is started, migrated pages; and verify sees who was moved."""
    first, last = (sorted(GRACE.online_of_node(node)) for node in (0, 1))
    memory = grace.section("memory")
    assert memory["ranks"] == [
        {"cpus": cpus, "policies": [f"bind:{node}"], "nodes": [node]}
        for node, cpus in [(0, first), (0, first), (1, last), (1, last)]
    ]
    assert memory["migrated"] == [[[0], [1]], last]
    assert memory["verified"] == [{"status": 0, "found": []}, {"status": 1, "found": [last]}]


def test_binding_to_gpu_memory_on_grace(grace: Guest) -> None:
    """Pages go to the GPUs' nodes of memory alone; an empty node is refused in words that say which have memory."""
    alone = grace.section("memory-alone")
    gpu_nodes = [node for node in GRACE.memory_nodes if not GRACE.node_dies[node]]
    assert alone["pages"] == {str(node): [node] for node in gpu_nodes}
    assert set(alone["refused"]) == set(map(str, GRACE.empty_nodes))
    for status, said in alone["refused"].values():
        assert status == 1
        assert "may have memory of NUMA nodes 0-2,5,8,11" in said


def test_quick_tests(arm: Root, wheel: Path) -> None:  # noqa: ARG001
    """Real tests pass with the wheel's extension and libhwloc."""
    machine = arm.output("uname", "-m").strip()
    print(f"\nuname -m: {machine}: ", end="")
    assert machine == "aarch64"
    arm.tests("-p", "tests.platforms.emulated", *(f"--deselect={name}" for name in NOT_EMULATED), *TESTS)


def test_quick_tests_on_a_kernel(arm: Root, wheel: Path) -> None:  # noqa: ARG001
    """Tests that bind and start processes pass on a kernel for Arm."""
    told = _in_guest(
        ARM_SINGLE, arm, "python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.platforms.emulated",
        *(f"--deselect={name}" for name in NOT_IN_GUEST), *GUEST_TESTS,
    )  # fmt: skip
    assert told.status == 0, f"{told.stdout}\n{told.stderr}"
    print(f"\non a kernel for Arm: {told.stdout.strip().rpartition(chr(10))[2]}")
