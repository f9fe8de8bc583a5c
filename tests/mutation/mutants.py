"""The faults: of a module's source, every copy with one small thing in it changed.

What is changed: comparisons, arithmetic, ``and`` and ``or``, ``not``, numbers, True and False, words (texts without a
space: the sentences of messages are left as they are), conditions, loops, slices, named arguments, what is returned,
raised or caught, and statements, which go. Annotations, docstrings and what only type checkers read are no faults.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq, ast.LtE, ast.GtE),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}

_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}

# What makes no difference to a program that runs: zip's own check, and names that type checkers alone read.
_NO_FAULT_ARGUMENTS = ("strict",)
_FOR_TYPE_CHECKERS = ("TYPE_CHECKING", "__slots__")


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes:
        where: the function that it is in, with its class; "" outside of any.
        change: what was there and what is there instead.
        lines: the lines of the statement or expression that is changed.
        in_function: whether it is in the body of a function, so that it can be put into a module that is loaded.
    """

    where: str
    change: str
    lines: range
    in_function: bool

    @property
    def name(self) -> str:
        """What to call it: the same in every run, whatever else of the module changes."""
        return f"{self.where or 'module'}: {self.change}"


def mutants_of(tree: ast.Module) -> Iterator[Mutant]:
    """Put each fault into a module in turn: the tree has it until the next one is asked for."""
    seen: Counter[str] = Counter()
    for path, in_function in list(_nodes(tree)):
        node, parent = path[-1], path[-2]
        where = ".".join(each.name for each in path[:-1] if isinstance(each, ast.FunctionDef | ast.ClassDef))
        for before, after in list(_changes(node, parent)):
            change = f"{_text(before)} → {_text(after)}"
            seen[where + change] += 1
            if seen[where + change] > 1:
                change += f" (no. {seen[where + change]})"
            _replace(parent, node, ast.fix_missing_locations(ast.copy_location(after, node)))
            yield Mutant(where, change, range(node.lineno, (node.end_lineno or node.lineno) + 1), in_function)
            _replace(parent, after, node)


def _text(node: ast.AST) -> str:
    text = ast.unparse(node)
    first, *more = text.splitlines() or [""]
    return first + (" …" if more else "")


def _nodes(tree: ast.Module) -> Iterator[tuple[tuple[ast.AST, ...], bool]]:
    """Every node that runs, with those around it; and whether it is in the body of a function."""

    def walk(path: tuple[ast.AST, ...], *, in_function: bool) -> Iterator[tuple[tuple[ast.AST, ...], bool]]:
        node = path[-1]
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list", "type_params"):
                continue
            inside = in_function or (isinstance(node, ast.FunctionDef | ast.Lambda) and field == "body")
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and not _is_for_type_checkers(child) and not _is_docstring(child):
                    yield (*path, child), inside
                    yield from walk((*path, child), in_function=inside)

    yield from walk((tree,), in_function=False)


def _is_for_type_checkers(node: ast.AST) -> bool:
    match node:
        case ast.If(test=ast.Name(id="TYPE_CHECKING")) | ast.ImportFrom() | ast.Import():
            return True
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name in _FOR_TYPE_CHECKERS
        case _:
            return False


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _replace(parent: ast.AST, node: ast.AST, new: ast.AST) -> None:
    for field, value in ast.iter_fields(parent):
        if value is node:
            setattr(parent, field, new)
        elif isinstance(value, list) and any(each is node for each in value):
            value[[each is node for each in value].index(True)] = new


def _changes(node: ast.AST, parent: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:  # noqa: C901, PLR0912 -- a table
    """What can be put in a node's place: pairs of the node and that."""

    def changed(**fields: object) -> tuple[ast.AST, ast.AST]:
        new = copy.copy(node)
        for name, value in fields.items():
            setattr(new, name, value)
        return node, new

    match node:
        case ast.Compare():
            for place, operator in enumerate(node.ops):
                for other in _COMPARISONS[type(operator)]:
                    yield changed(ops=[*node.ops[:place], other(), *node.ops[place + 1 :]])
        case ast.BinOp() | ast.AugAssign():
            yield changed(op=_ARITHMETIC[type(node.op)]())
        case ast.BoolOp():
            yield changed(op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        case ast.UnaryOp():
            yield node, node.operand
        case ast.Constant():
            yield from ((node, ast.Constant(value)) for value in _other_values(node.value, parent))
        case ast.For():
            yield changed(iter=ast.Tuple([], ast.Load()))
        case ast.Slice():
            if node.lower is not None:
                yield changed(lower=None)
            if node.upper is not None:
                yield changed(upper=None)
        case ast.Call():
            for place, argument in enumerate(node.keywords):
                if argument.arg not in (*_NO_FAULT_ARGUMENTS, None):
                    yield changed(keywords=[*node.keywords[:place], *node.keywords[place + 1 :]])
        case ast.Return(value=ast.AST() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield changed(value=ast.Constant(None))
        case ast.ExceptHandler(type=ast.AST()):
            yield changed(type=ast.Name("ZeroDivisionError", ast.Load()))
        case ast.Raise() | ast.Continue() | ast.Delete():
            yield node, ast.Pass()
        case ast.Break():
            yield node, ast.Continue()
        case ast.Expr(value=ast.Call() | ast.Yield() | ast.YieldFrom()):
            yield node, ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript(), *_]):
            yield node, ast.Pass()
        case ast.If() | ast.While() | ast.IfExp():
            if not isinstance(node.test, ast.UnaryOp):  # of which the "not" goes
                yield changed(test=ast.UnaryOp(ast.Not(), node.test))
        case ast.comprehension():
            pass
    if isinstance(parent, ast.comprehension) and node in parent.ifs and not isinstance(node, ast.UnaryOp):
        yield node, ast.UnaryOp(ast.Not(), node)
    if isinstance(node, ast.AugAssign):
        yield node, ast.Pass()


def _other_values(value: object, parent: ast.AST) -> Iterator[object]:
    if isinstance(parent, ast.JoinedStr | ast.FormattedValue):
        return
    if isinstance(parent, ast.keyword) and parent.arg in _NO_FAULT_ARGUMENTS:
        return
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value + 1
        yield value - 1
    elif isinstance(value, str) and not any(each.isspace() for each in value):
        yield value + "X"
