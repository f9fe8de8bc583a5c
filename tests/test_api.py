"""The public API: what it prints, what it gives as plain values, and what stands in its signatures."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import hwnuma
from hwnuma import Binding, Gpu, Machine, Plan, TopologyGpus
from hwnuma.cli.start import main
from hwnuma.errors import NoAllowedCpusError
from tests.conftest import ROOT, TOPOLOGIES

DGX = TOPOLOGIES / "dgx_a100_nps4.xml"


@pytest.fixture
def dgx(machine_of: Callable[[str], Machine]) -> Machine:
    """A DGX A100."""
    return machine_of("dgx_a100_nps4")


def command_plan(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """What `hwnuma plan` prints of a DGX A100 in mode exclusive."""
    assert main(["plan", "--topology", str(DGX), "--mode", "exclusive", *options]) == 0
    return capsys.readouterr().out


def same_source(plan: Plan) -> Plan:
    """The plan under the name that the command gives its machine."""
    return hwnuma.Plan(plan.options, str(DGX), plan.allowed_cpuset, plan.bindings, plan.warnings, plan.machine)


def test_a_plan_prints_as_the_table_of_the_command(dgx: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """`print(plan)` prints what `hwnuma plan` does."""
    plan = hwnuma.plan(dgx, TopologyGpus(dgx), "exclusive")
    assert f"{same_source(plan)}\n" == command_plan(capsys)


def test_a_plan_as_plain_values_is_the_json_contract(dgx: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """`plan.as_dict()` is what `hwnuma plan --format json` prints, and each of its rows is `binding.as_dict()`."""
    plan = same_source(hwnuma.plan(dgx, TopologyGpus(dgx), "exclusive"))
    assert plan.as_dict() == json.loads(command_plan(capsys, "--format", "json"))
    assert plan.as_dict()["bindings"] == [binding.as_dict() for binding in plan]


def test_a_rank_that_is_not_placed_has_its_error_instead() -> None:
    """The class and the sentence, beside the GPU."""
    row = Binding(3, (Gpu(3, "0000:4e:00.0"),), error=NoAllowedCpusError("none is allowed")).as_dict()
    assert row == {
        "local_rank": 3,
        "gpus": [{"index": 3, "pci_address": "0000:4e:00.0", "uuid": None, "name": None}],
        "error": {"type": "NoAllowedCpusError", "message": "none is allowed"},
    }


def test_the_representation_of_a_plan_is_a_line(dgx: Machine) -> None:
    """A debugger or a failed assertion shows what it is a plan of, and not 8,000 characters."""
    whole = hwnuma.plan(dgx, TopologyGpus(dgx), "exclusive")
    assert repr(whole) == f"<Plan: 8 ranks, mode exclusive, on {dgx.source}>"
    narrow = hwnuma.plan(dgx.narrowed(whole[0].cpuset), TopologyGpus(dgx), "node", ranks=1)
    assert repr(narrow) == f"<Plan: 1 rank, mode node, on {dgx.source}>"
    failed = hwnuma.plan(dgx.narrowed(whole[0].cpuset), TopologyGpus(dgx), "node")
    assert repr(failed) == f"<Plan: 8 ranks, mode node, on {dgx.source}, 6 not placed>"


# ---- signatures ----------------------------------------------------------------------------------------------

# What torch's DefaultLogsSpecs takes is handed on as it is.
HANDED_ON = {"logs_specs.HwnumaLogsSpecs.__init__", "logs_specs.TorchrunLogsSpecs.__init__"}


def public_files() -> list[Path]:
    """The files that public names live in."""
    integrations = (ROOT / "hwnuma" / "integrations").glob("[!_]*.py")
    return sorted({*integrations, *(Path(inspect.getfile(getattr(hwnuma, name))) for name in hwnuma.__all__)})


def signatures(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    """The public functions and methods of a file, constructors included, by name."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from signatures(node.body, f"{prefix}.{node.name}")
        elif isinstance(node, ast.FunctionDef) and (not node.name.startswith("_") or node.name == "__init__"):
            yield f"{prefix}.{node.name}", node


@pytest.mark.parametrize("path", public_files(), ids=lambda path: path.stem)
def test_no_public_signature_says_any(path: Path) -> None:
    """A checker could tell no mistake there."""
    found = [
        name
        for name, node in signatures(ast.parse(path.read_text()).body, path.stem)
        if any(isinstance(part, ast.Name) and part.id == "Any" for part in annotations(node))
    ]
    assert set(found) - HANDED_ON == set()


def annotations(node: ast.FunctionDef) -> Iterator[ast.AST]:
    """All parts of a function's annotations."""
    taken = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
    written = [argument.annotation for argument in taken if argument is not None] + [node.returns]
    for annotation in written:
        yield from ast.walk(annotation) if annotation is not None else ()


def test_what_looks_for_any_finds_it() -> None:
    """In a union, in an argument of a type, and as a return type."""
    for text in ("def f(a: int | Any): ...", "def f(*a: list[Any]): ...", "def f() -> Any: ..."):
        ((_, node),) = signatures(ast.parse(text).body, "here")
        assert any(isinstance(part, ast.Name) and part.id == "Any" for part in annotations(node))
