"""Write docs/reference/json.md from the JSON Schemas: ``python docs/reference/json_page.py``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hwnuma.report.json_schema import COMMON, PRINTED_BY, read_schema

PAGE = Path(__file__).parent / "json.md"

_HEAD = """\
# JSON

Every key of what hwnuma prints as JSON, from the JSON Schemas (draft 2020-12) that are in the package; this page is
made of them by `python docs/reference/json_page.py`.

```sh
hwnuma schema                             # which there are
hwnuma schema plan > plan.schema.json     # one, whole: what it refers to is in it
```

`hwnuma.json_schema("plan")` gives the same in Python.

`schema` is 1 until a key changes its meaning. Keys may be added to each object, so a reader passes over those that it
does not know, as the schemas do; what an earlier version printed stays valid. Sizes are in bytes and times in seconds.
"""

_LINK = "[Its schema](../../hwnuma/report/schemas/{}.schema.json)."


def page() -> str:
    """The whole page."""
    lines = [_HEAD.rstrip()]
    for name, command in PRINTED_BY.items():
        schema = read_schema(name)
        lines += [
            "",
            f"## {name}",
            "",
            f"{schema['title']}: `{command}`. {_LINK.format(name)}",
            "",
            *_table(name, schema),
        ]
        for definition, told in schema.get("$defs", {}).items():
            lines += ["", f"### {definition} (of {name})", "", *_table(name, told)]
    for definition, told in read_schema(COMMON)["$defs"].items():
        if "properties" in told:
            lines += ["", f"## {definition} (of several)", "", told["description"], "", *_table(COMMON, told)]
    return "\n".join(lines) + "\n"


def _table(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield "| key | type | what |"
    yield "| --- | --- | --- |"
    yield from _rows(name, schema, "")


def _rows(name: str, schema: dict[str, Any], path: str) -> Iterator[str]:
    for key, told in schema["properties"].items():
        known = _resolved(name, told)
        always = "" if key in schema["required"] else " (not always)"
        what = known.get("description", "").replace("|", "\\|")
        yield f"| `{path}{key}` | {_type(name, told)}{always} | {what} |"
        yield from _below(name, told, f"{path}{key}")


def _below(name: str, told: dict[str, Any], path: str) -> Iterator[str]:
    """The rows of an object, or of a list's members, that stand here and not in a definition."""
    for each in (told, *told.get("anyOf", ())):
        if "properties" in each:
            yield from _rows(name, each, f"{path}.")
        elif isinstance(each.get("items"), dict):
            yield from _below(name, each["items"], f"{path}[]")


def _resolved(name: str, told: dict[str, Any]) -> dict[str, Any]:
    """A schema with what it refers to; a description beside the reference counts first."""
    if "$ref" not in told:
        return told
    document, _, pointer = told["$ref"].partition("#/")
    found: Any = read_schema(document.rpartition(":")[2] if document else name)
    for piece in pointer.split("/"):
        found = found[piece]
    return {**_resolved(document.rpartition(":")[2] if document else name, found), **told}


def _type(name: str, told: dict[str, Any]) -> str:
    if "$ref" in told:
        definition = told["$ref"].rpartition("/")[2]
        known = _resolved(name, told)
        plain = {key: value for key, value in known.items() if key != "$ref"}
        return definition if "properties" in known else _type(name, plain)
    if "anyOf" in told and "properties" not in told:
        return " or ".join(_type(name, each) for each in told["anyOf"])
    if "enum" in told:
        return ", ".join(f"`{each}`" for each in told["enum"])
    if "const" in told:
        return f"`{told['const']}`"
    kind = told["type"]
    if kind == "array":
        inner = told.get("items")
        return f"list of {_type(name, inner)}" if isinstance(inner, dict) else "list"
    return kind if isinstance(kind, str) else " or ".join(kind)


if __name__ == "__main__":
    PAGE.write_text(page())
