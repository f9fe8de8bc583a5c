"""The faults of `python -m tests.mutation`: which there are, and that one in a loaded module does its work."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.mutation.fresh import pass_with
from tests.mutation.mutants import mutants_of
from tests.mutation.page import page, reasons
from tests.mutation.plugin import ELSEWHERE, FOUND, SURVIVED, UNREACHED, put_into
from tests.mutation.targets import TARGETS
from tests.processes import ROOT


def names(source: str) -> list[str]:
    """What the faults of some code are called."""
    return [mutant.name for mutant in mutants_of(ast.parse(source))]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b", ["a < b → a <= b", "a < b → a >= b"]),
        ("a is None", ["a is None → a is not None"]),
        ("a | b", ["a | b → a & b"]),
        ("a and b", ["a and b → a or b"]),
        ("if not a: b", ["not a → a"]),
        ("if a: b", ["if a: … → if not a: …"]),
        ("[a for a in b if a]", ["a → not a"]),
        ("a = 1, True", ["1 → 2", "1 → 0", "True → False"]),
        ("a = 'word', 'more than one'", ["'word' → 'wordX'"]),
        ("f'{a}text'", []),
        ("a[b:c]", ["b:c → :c", "b:c → b:"]),
        ("f(a, key=b)", ["f(a, key=b) → pass", "f(a, key=b) → f(a)"]),
        ("a = zip(b, c, strict=True)", []),
        ("a.b = c", ["a.b = c → pass"]),
        ("a += b", ["a += b → a -= b", "a += b → pass"]),
        ("for a in b: break", ["for a in b: … → for a in (): …", "break → continue"]),
        ("raise a", ["raise a → pass"]),
        ("def f(a: int = 1) -> 'int': return a", ["1 → 2", "1 → 0", "return a → return None"]),
        ("'A docstring.'\nif TYPE_CHECKING:\n    a = 1", []),
        ("f(1)\nf(1)", ["f(1) → pass", "1 → 2", "1 → 0", "f(1) → pass (no. 2)", "1 → 2 (no. 2)", "1 → 0 (no. 2)"]),
    ],
)
def test_what_is_changed(source: str, expected: list[str]) -> None:
    """A small thing at a time, each with a name of its own; what does not run is left as it is."""
    assert [name.partition(": ")[2] for name in names(source)] == expected


def test_a_fault_is_there_until_the_next_one_is_asked_for() -> None:
    """So that no copy of the module is made for each."""
    tree = ast.parse("a = b + c\nd = e - f")
    whole = ast.unparse(tree)
    with_faults = [ast.unparse(tree) for _ in mutants_of(tree)]
    assert with_faults == ["a = b - c\nd = e - f", "a = b + c\nd = e + f"]
    assert ast.unparse(tree) == whole


SOURCE = """
from functools import cache
def outer(a):
    def inner(b):
        return b + 1
    return inner(a)
class Class:
    def method(self):
        return 1
    @classmethod
    def of_class(cls):
        return 1
    @property
    def computed(self):
        return 1
"""


def loaded(path: Path) -> ModuleType:
    """Import a file."""
    spec = importlib.util.spec_from_file_location("of_tests", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_fault_is_put_into_functions_that_others_hold(tmp_path: Path) -> None:
    """Functions, what is inside of them, methods, class methods and properties: the same objects, with other bodies."""
    path = tmp_path / "of_tests.py"
    path.write_text(SOURCE)
    module = loaded(path)
    held, instance = module.outer, module.Class()
    put_into(module, compile(SOURCE.replace("+ 1", "+ 2").replace("return 1", "return 2"), str(path), "exec"))
    assert (held(1), instance.method(), module.Class.of_class(), instance.computed) == (3, 2, 2, 2)


PRINT_TWICE = """
import subprocess, sys
from hwnuma.model import table
print(table.FAULT, flush=True)
if sys.argv[1:]:
    subprocess.run([sys.executable, "-c", sys.argv[1]], check=True)
"""


def test_what_tests_start_has_the_fault(tmp_path: Path) -> None:
    """A Python with the fault in its environment loads the module with it, and so does one that it starts."""
    source = (ROOT / "hwnuma/model/table.py").read_text()
    (tmp_path / "table.py").write_text(source + "FAULT = True\n")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "tests/mutation/for_children"),
        "FAULT_IN_HWNUMA": f"hwnuma.model.table={tmp_path / 'table.py'}",
    }
    command = [sys.executable, "-c", PRINT_TWICE, PRINT_TWICE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["True", "True"]


LOOKS_AT_A_CONSTANT = """
from hwnuma.model import table
def test_a_constant():
    assert table.CONSTANT == 1
"""


@pytest.mark.slow  # a pytest of its own
def test_a_fault_outside_of_functions_is_found_in_a_fresh_python(tmp_path: Path) -> None:
    """There pytest loads the module with the fault, and its tests fail of that alone."""
    tests = tmp_path / "test_made.py"
    tests.write_text(LOOKS_AT_A_CONSTANT)
    module = Path("hwnuma/model/table.py")
    source = (ROOT / module).read_text()
    passed = [pass_with(f"{source}CONSTANT = {number}\n", module, [str(tests)]) for number in (1, 2)]
    assert passed == [True, False]


def test_a_fault_that_is_not_loaded_is_no_survivor(tmp_path: Path) -> None:
    """Tests that pass without it say nothing."""
    tests = tmp_path / "test_made.py"
    tests.write_text("def test_nothing(): pass\n")
    with pytest.raises(SystemExit, match=r"hwnuma/model/none.py was not loaded with its fault"):
        pass_with("", Path("hwnuma/model/none.py"), [str(tests)])


def test_the_page_counts_what_was_tried_and_names_what_survives() -> None:
    """Of two modules: what was not tried is in no share, and a survivor without a reason stands out."""
    module = "hwnuma/policy/ranks.py"
    known = next(iter(reasons()[module]))
    outcomes = {
        module: {"a": FOUND, "b": FOUND, known: SURVIVED, "c": UNREACHED, "d": ELSEWHERE},
        "hwnuma/policy/modes.py": {"a": FOUND},
    }
    lines = page(outcomes, {module: "25 %, seed 1", "hwnuma/policy/modes.py": "all"}).splitlines()
    assert f"| `{module}` | 25 %, seed 1 | 4 | 2 | 50.0 % | 1 | 1 | 1 |" in lines
    assert "| `hwnuma/policy/modes.py` | all | 1 | 1 | 100.0 % | 0 | 0 | 0 |" in lines
    assert "| all of `hwnuma/policy/` |  | 5 | 3 | 60.0 % | 1 | 1 | 1 |" in lines
    assert f"| `{known}` | {reasons()[module][known]} |" in lines
    assert "| `c` | **no reason yet** |" in lines
    assert not [line for line in lines if line.startswith("| `d` |")]


def test_the_faults_that_have_a_reason_exist() -> None:
    """One whose code has changed since has to be thought of anew."""
    for module, faults in reasons().items():
        assert faults.keys() - set(names((ROOT / module).read_text())) == set()


def test_the_modules_and_tests_that_are_named_exist() -> None:
    """A table that nobody reads goes stale."""
    for module, tests in TARGETS.items():
        assert [name for name in (module, *tests) if not (ROOT / name).is_file()] == []
