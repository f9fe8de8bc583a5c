"""``hwnuma schema``: print the JSON Schema of what a command prints, or say which there are."""

from __future__ import annotations

from hwnuma.cli.exit_status import DONE
from hwnuma.cli.output import say, say_data
from hwnuma.report.json_schema import PRINTED_BY, json_schema

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping


def add_schema_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``hwnuma schema`` takes."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="which one to print; without it, which there are")


def schema_command(parsed: argparse.Namespace, _environment: Mapping[str, str]) -> int:
    """Run ``hwnuma schema``."""
    if parsed.name is not None:
        say_data(json_schema(parsed.name))
        return DONE
    from hwnuma.model.table import table_lines  # only for the list

    say("\n".join(table_lines(("schema", "of what is printed by"), list(PRINTED_BY.items()))))
    return DONE
