"""`import hwnuma` is light, and the layers hold."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib.metadata import version

import pytest

import hwnuma

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
    assert callable(getattr(hwnuma, name))
    assert name in hwnuma.__all__


def test_type_checkers_and_python_find_the_same_names() -> None:
    """What __init__ imports for type checkers is __all__, and Python gets each name from the same room."""
    tree = ast.parse(inspect.getsource(hwnuma))
    imports = [
        node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and (node.module or "") != "__future__"
    ]
    typed = {alias.name: node.module for node in imports for alias in node.names if node.module != "importlib"}
    assert sorted(typed) == sorted(hwnuma.__all__)
    for name, room in typed.items():
        assert getattr(hwnuma, name) is getattr(sys.modules[str(room)], name)


def test_importing_hwnuma_imports_nothing_else() -> None:
    """Not a single module: a launcher that imports it and does not use it pays for one small file."""
    assert _modules_after("import hwnuma") - _modules_after("import __future__") == {"hwnuma"}


def test_the_version_is_that_of_the_installed_package() -> None:
    """It is looked up when it is asked for."""
    assert hwnuma.__version__ == version("hwnuma")


def test_a_name_that_is_not_there() -> None:
    """It is an AttributeError, as in any module, and dir() lists what is there."""
    with pytest.raises(AttributeError, match="module 'hwnuma' has no attribute 'binding'"):
        hwnuma.binding  # noqa: B018
    assert {"bind", "plan", "Topology"} <= set(dir(hwnuma))
