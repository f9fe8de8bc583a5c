"""The example project: its own tests pass with the wheel alone, in an environment that knows nothing of this tree."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from tests.packaging.tools import ROOT, new_environment, run

EXAMPLE = ROOT / "examples" / "minilauncher"
# What issue 14 allows: the machines, the fake driver and the plug-in together.
MOST_BYTES = 400_000


def test_example_passes_its_tests_with_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """A launcher's author installs hwnuma[testing], and has the fixture, the machines and the recordings."""
    project = Path(
        shutil.copytree(EXAMPLE, tmp_path / "minilauncher", ignore=shutil.ignore_patterns("*.egg-info", "build"))
    )
    python = new_environment(tmp_path / "venv", f"{wheel}[testing]", project)
    done = run([python, "-I", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"], cwd=project)
    print(done.stdout.splitlines()[-1])
    assert done.stdout.splitlines()[-1].startswith("4 passed")


def test_wheel_has_every_machine(wheel: Path, tmp_path: Path) -> None:
    """Each fixture machine is in it, and none is needed from elsewhere."""
    python = new_environment(tmp_path / "venv", wheel)
    call = "from hwnuma.testing import machines; print(*machines(), sep='\\n')"
    names = sorted(file.stem for file in (ROOT / "fixtures" / "topologies").glob("*.xml"))
    assert run([python, "-I", "-c", call], cwd=tmp_path).stdout.splitlines() == names


def test_testing_adds_little_to_the_wheel(wheel: Path) -> None:
    """All that is there for tests takes less than 400 kB of the wheel, as it is compressed in it."""
    with zipfile.ZipFile(wheel) as archive:
        sizes = {each.filename: each.compress_size for each in archive.infolist() if "hwnuma/testing/" in each.filename}
    print(f"hwnuma/testing takes {sum(sizes.values())} bytes of the wheel's {wheel.stat().st_size}")
    assert {"hwnuma/testing/fake_nvml.c", "hwnuma/testing/startup/sitecustomize.py"} <= sizes.keys()
    assert sum(sizes.values()) < MOST_BYTES
