"""hwnuma built and run with the hwlocs and Pythons of later Debians: 2.12 and 3.13, and what is newest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.platforms.roots import Root, make_root

# All of the topology, the policy and what is planned on every fixture machine, and the command line.
TESTS = (
    "tests/test_bitmap.py", "tests/test_topology.py", "tests/test_golden.py", "tests/test_policy.py",
    "tests/test_gpus.py", "tests/test_locality.py", "tests/test_device_nodes.py", "tests/test_facts.py",
    "tests/test_binding.py", "tests/test_memory.py", "tests/test_malformed_files.py",
)  # fmt: skip

# By suite, the least versions that it is there for.
SUITES = {"trixie": ("2.12", "3.13"), "sid": ("2.15", "3.14")}

_VERSIONS = """
import platform, re, hwnuma
with hwnuma.Topology.from_synthetic("pu:1") as topology:
    release = re.findall(r'name="hwlocVersion" value="([^"]*)"', topology.export_xml())[0]
print(release, platform.python_version(), platform.machine())
"""


@pytest.fixture(scope="module", params=SUITES)
def debian(request: pytest.FixtureRequest, root_folder: Path) -> tuple[str, Root]:
    """A root file system of each suite, with hwnuma built there against its libhwloc."""
    root = make_root(root_folder / request.param, request.param)
    root.output("python3", "setup.py", "--quiet", "egg_info", "build_ext", "--inplace", HWNUMA_USE_SYSTEM_HWLOC="1")
    return request.param, root


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")[:2]]


def test_quick_tests(debian: tuple[str, Root]) -> None:
    """Real tests pass there, with the libhwloc and the Python that the suite is there for, or later ones."""
    suite, root = debian
    hwloc, python, machine = root.output("python3", "-c", _VERSIONS).split()
    print(f"\n{suite}: hwloc {hwloc}, Python {python}, {machine}: ", end="")
    for found, wanted in zip((hwloc, python), SUITES[suite], strict=True):
        assert _numbers(found) >= _numbers(wanted)
    root.tests(*TESTS)
