"""The JSON Schemas (draft 2020-12) of all JSON that hwnuma prints, each in a file beside this one. Pure."""

from __future__ import annotations

from hwnuma.errors import OptionError
from hwnuma.model.characters import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Schema = dict[str, Any]

# Which command prints it: its words, without which machine and what about.
PRINTED_BY = {
    "plan": "hwnuma plan --format json",
    "show": "hwnuma show --format json",
    "gpus": "hwnuma gpus --format json",
    "topo": "hwnuma topo --format json",
    "facts": "hwnuma capture --facts",
    "diff": "hwnuma diff A B --format json",
    "fleet": "hwnuma fleet DIR --format json",
    "bench": "hwnuma bench --format json",
    "compare": "hwnuma bench --compare MODES --format json",
    "verify": "hwnuma verify --format json",
    "watch": "hwnuma verify --watch SECONDS --format json",
}

# Parts that several of them have.
COMMON = "common"

_NAMESPACE = "urn:hwnuma:schema:1:"


def json_schema(name: str) -> dict[str, object]:
    """Give a JSON Schema (draft 2020-12) of what a command prints, whole: what it refers to is in its ``$defs``.

    It lets keys pass that it does not know, since keys may be added to schema 1.

    Args:
        name: "plan", "show", "gpus", "topo", "facts" (``hwnuma capture --facts``), "diff", "fleet", "bench", "compare"
            (``hwnuma bench --compare``), "verify", or "watch" (each line of ``hwnuma verify --watch``).

    Raises:
        OptionError: there is none of that name.
    """
    if name not in PRINTED_BY:
        raise OptionError(f"there is no schema {shown(name)}: there are {', '.join(PRINTED_BY)}")
    schema = read_schema(name)
    others = _others(schema, {name})
    if others:
        schema["$defs"] = {**schema.get("$defs", {}), **{other: read_schema(other) for other in others}}
    return schema


def read_schema(name: str) -> Schema:
    """Read one file alone, with its references to others."""
    import json  # only here
    from importlib.resources import files  # likewise

    text = files("hwnuma.report").joinpath("schemas").joinpath(f"{name}.schema.json").read_text(encoding="utf-8")
    schema: Schema = json.loads(text)
    return schema


def _others(schema: Schema, known: set[str]) -> list[str]:
    """The schemas that one refers to, and that these refer to, each once."""
    found: list[str] = []
    for reference in _references(schema):
        other = reference.removeprefix(_NAMESPACE).partition("#")[0]
        if reference.startswith(_NAMESPACE) and other not in known:
            known.add(other)
            found += other, *_others(read_schema(other), known)
    return found


def _references(part: Any) -> Iterator[str]:
    """All references in a schema, wherever they stand."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        part = list(part.values())
    for each in part if isinstance(part, list) else ():
        yield from _references(each)
