"""The C files of the extension under AddressSanitizer, UBSan, LeakSanitizer and valgrind: no word from any of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TOPOLOGIES
from tests.require import require
from tests.sanitizers import builds

pytestmark = pytest.mark.sanitizers

DGX = TOPOLOGIES / "dgx_a100_nps4.xml"
FILES = (str(DGX), str(TOPOLOGIES / "gh200_x4.xml"))
LOADS = 10_000


@pytest.fixture(autouse=True, scope="session")
def what_is_needed() -> None:
    """Clang, valgrind, and the libhwloc of tests/sanitizers/setup."""
    there = shutil.which("clang") and shutil.which("valgrind") and (builds.HWLOC / "lib" / "libhwloc.so").exists()
    require(there, "clang, valgrind or a sanitized libhwloc is missing: run tests/sanitizers/setup")


def run(*command: object, **environment: str) -> str:
    """Run a program that may not say anything on standard error, and give what it prints."""
    done = subprocess.run(
        [str(word) for word in command],
        env=os.environ | builds.SETTINGS | environment, capture_output=True, text=True, check=False, timeout=300, cwd=builds.ROOT,
    )  # fmt: skip
    told = [line for line in done.stderr.splitlines() if line and not _is_of_the_trial(line)]
    assert (done.returncode, told) == (0, []), done.stdout[-2000:] + done.stderr[-6000:]
    print(f"\n{done.stdout.strip().splitlines()[-1]}")
    return done.stdout


def _is_of_the_trial(line: str) -> bool:
    """AddressSanitizer does not know the stack of the process between (try_xml.c), and says so as that ends."""
    return any(
        word in line for word in ("__asan_handle_no_return", "False positive error reports", "sanitizers/issues/189")
    )


def test_all_is_used_without_a_word_of_a_sanitizer() -> None:
    """This system, files, files cut short, lists that are none: no bad access, no undefined behaviour, no leak."""
    assert "all of it was used, on 2 files" in run(builds.program("exercise"), "all", *FILES)


def test_ten_thousand_loads_leak_nothing() -> None:
    """LeakSanitizer looks at what is left at the end."""
    small = builds.BUILT / "small.xml"
    small.write_text(_exported("pack:2 [numa] l2:2 pu:2"))
    assert f"{LOADS} loads" in run(builds.program("exercise"), "loads", LOADS, small)


def _exported(description: str) -> str:
    from hwnuma import Topology

    with Topology.from_synthetic(description) as topology:
        return topology.export_xml()


@pytest.mark.fault(
    "memory", "each call of the C files that can fail does, one after another", "gives an error, or the same answer"
)
def test_each_call_that_fails_is_an_error_or_changes_nothing() -> None:
    """Allocations and libhwloc's own calls: never a crash, a leak, or another answer."""
    told = run(builds.failing_program(), DGX).splitlines()
    assert len(told) == 6, told
    assert all(line.endswith(" 0 wrong, 0 died") and " 0 calls failed" not in line for line in told), told
    print("\n".join(told))


def test_the_readers_in_c_are_fuzzed(tmp_path: Path) -> None:
    """LibFuzzer, led by coverage, from a fixed seed: what looks at documents, and what reads a rank's list of CPUs."""
    (tmp_path / "document").write_text(_exported("pu:2"))
    (tmp_path / "list").write_text("0,2-4,9")
    command = (
        builds.fuzzing_program(),
        "-runs=200000",
        "-seed=16",
        "-max_len=4096",
        f"-artifact_prefix={builds.BUILT}/",
        tmp_path,
    )
    done = subprocess.run(
        [str(word) for word in command],
        env=os.environ | builds.SETTINGS, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-6000:]
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("Done 200000 runs in ")
    print(f"\n{last}")


def test_valgrind_says_nothing() -> None:
    """On libhwloc as Debian builds it: no error, and no byte that is lost for good."""
    options = (
        "--error-exitcode=9",
        "--leak-check=full",
        "--errors-for-leak-kinds=definite",
        "--child-silent-after-fork=yes",
    )
    done = subprocess.run(
        ["valgrind", *options, str(builds.plain_program()), "all", FILES[1]],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-6000:]
    assert "all of it was used" in done.stdout
    print(f"\n{done.stderr.strip().splitlines()[-1]}")


# Within Python, LeakSanitizer would tell of the interpreter's own: leaks are looked for above, without it.
WITHIN_PYTHON = {"ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1"}
TESTS = ("tests/test_topology.py", "tests/test_self_binding.py")


def test_the_extension_under_pythons_tests() -> None:
    """The quick tests that call libhwloc most, with the sanitized extension in their process."""
    path = builds.extension()
    environment = WITHIN_PYTHON | {"LD_PRELOAD": builds.runtime(), "PYTHONPATH": str(path)}
    which = "import hwnuma; print(hwnuma.__file__)"
    command = [sys.executable, "-P"] if sys.version_info >= (3, 11) else [sys.executable]
    assert str(path) in run(*command, "-c", which, **environment)
    code = (
        "import sys, hwnuma, pytest; sys.path.append('.')\n"  # hwnuma first: the source tree has one too
        "sys.exit(pytest.main(['-q', '-s', '-p', 'no:cacheprovider', '--assert=plain', '--import-mode=importlib', *sys.argv[1:]]))"
    )
    told = run(*command, "-c", code, *TESTS, "-k", "not forked and not child", **environment)
    assert " passed" in told
