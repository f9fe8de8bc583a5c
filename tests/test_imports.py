"""`import hwnuma` is light, and the layers hold."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"pynvml", "argparse", "tabulate", "torch", "click", "rich", "typer", "numpy", "xml", "ctypes", "json"}


def _modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    return set(subprocess.check_output([sys.executable, "-c", code], text=True).split())


def test_importing_hwnuma_loads_nothing_heavy() -> None:
    """No NVML, no command line, no table library, no XML parser, no torch."""
    before = _modules_after("pass")
    assert HEAVY & {name.split(".")[0] for name in _modules_after("import hwnuma") - before} == set()


def test_exec_loads_only_what_it_needs() -> None:
    """It runs once a worker: no NVML where no GPU is asked for, no tables, no report."""
    command = ["-m", "hwnuma", "exec", "--gpus", "none", "--ranks", "1", "--local-rank", "0", "true"]
    done = subprocess.run([sys.executable, "-X", "importtime", *command], capture_output=True, text=True, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "hwnuma.launch" in loaded
    assert {"pynvml", "tabulate", "hwnuma.report", "xml.etree.ElementTree"} & loaded == set()


@pytest.mark.parametrize("name", ["Topology", "bind", "plan", "NumaOptions", "AffinityMode", "CpuSet", "HwnumaError"])
def test_the_public_names_are_there(name: str) -> None:
    """What the documentation imports from hwnuma is in it and in its __all__."""
    import hwnuma

    assert callable(getattr(hwnuma, name))
    assert name in hwnuma.__all__
