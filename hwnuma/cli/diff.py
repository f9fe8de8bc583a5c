"""``hwnuma diff A B``: what differs between two machines or two plans, and which ranks are placed otherwise."""

from __future__ import annotations

import sys
from functools import partial

from hwnuma.captures.changed_places import Change, Planned, change_of
from hwnuma.captures.compared import Look, differences
from hwnuma.captures.fingerprint import document_of_file
from hwnuma.captures.fleet import look_of
from hwnuma.cli.exit_status import DIFFERENT, DONE
from hwnuma.cli.options import PLAN_OPTIONS
from hwnuma.cli.output import say_data, write
from hwnuma.cli.parsing import OUTPUT, add_options, format_option
from hwnuma.errors import HwnumaError, OptionError
from hwnuma.hwloc.files import decompressed
from hwnuma.hwloc.xml import MOST_BYTES
from hwnuma.launch.job import Job, plan_job
from hwnuma.model.characters import excerpt, shown
from hwnuma.model.option_table import PREFIX
from hwnuma.model.options import AffinityMode
from hwnuma.model.plan import SCHEMA
from hwnuma.model.value import Value, replace
from hwnuma.report.difference import MACHINES, PLANS, Difference, Side, difference_as_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping
    from typing import Any

    from hwnuma.model.machine import Machine

_THIS_SYSTEM = "this system"


def add_diff_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``hwnuma diff`` takes."""
    parser.add_argument(
        "a", metavar="A", help="a saved machine (.xml, .xml.gz, .xml.xz) or a plan (plan --format json)"
    )
    parser.add_argument(
        "b", metavar="B", nargs="?", help="another of the same kind; - for standard input; default: this machine"
    )
    add_options(parser, PLAN_OPTIONS)
    format_option(parser.add_argument_group(OUTPUT), ("text", "json"))


def diff_command(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Run ``hwnuma diff``."""
    if (parsed.a, parsed.b) == ("-", "-"):
        raise OptionError("both A and B are standard input, which can be read once: name a file for one of them")
    plans = plans_asked(parsed, environment)
    found = _compared(_read(parsed.a), _read(parsed.b), plans)
    if parsed.format == "json":
        say_data(found.as_dict())
    elif text := difference_as_text(found):
        write(text if text.endswith("\n") else f"{text}\n")
    return DONE if found.is_same else DIFFERENT


def _compared(one: _Side, other: _Side, plans: Callable[[Machine], tuple[Planned, ...]]) -> Difference:
    if isinstance(one, _SavedPlan) and isinstance(other, _SavedPlan):
        return _plans(one, other)
    if isinstance(one, _Machine) and isinstance(other, _Machine):
        return _machines(one, other, plans)
    kinds = [f"{side.source} is a {'plan' if isinstance(side, _SavedPlan) else 'machine'}" for side in (one, other)]
    raise OptionError(f"{', and '.join(kinds)}: compare two of a kind, or plan the machine first")


class Plans(Value):
    """What plans a machine in each mode that is asked for. Picklable."""

    job: Job
    modes: tuple[AffinityMode, ...]

    def __call__(self, machine: Machine) -> tuple[Planned, ...]:
        """Plan a machine; what cannot be planned carries its error."""
        return tuple(map(partial(self._in_mode, machine), self.modes))

    def _in_mode(self, machine: Machine, mode: AffinityMode) -> Planned:
        job = replace(self.job, options=replace(self.job.options, affinity_mode=mode))
        try:
            return Planned.of(plan_job(machine, job).as_dict())
        except HwnumaError as error:
            return Planned(mode.value, (), str(error))


def plans_asked(parsed: argparse.Namespace, environment: Mapping[str, str]) -> Plans:
    """What plans as the command line says: in its mode, or in all where it names none.

    Raises:
        OptionError: an option makes no sense.
    """
    own = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    job = Job.asked(vars(parsed), own)
    is_named = parsed.mode is not None or f"{PREFIX}MODE" in own
    return Plans(job, (job.options.affinity_mode,) if is_named else tuple(AffinityMode))


class _SavedPlan(Value):
    source: str
    plan: Mapping[str, Any]


class _Machine(Value):
    source: str
    look: Look


_Side = _SavedPlan | _Machine


def _read(name: str | None) -> _Side:
    if name is None:
        return _this_system()
    source = "standard input" if name == "-" else name
    if name == "-":
        if sys.stdin is None:
            raise OptionError("-: standard input is closed")
        content = decompressed(sys.stdin.buffer.read(MOST_BYTES + 1), source, most_bytes=MOST_BYTES)
    else:
        content = document_of_file(name)
    if content.lstrip()[:1] == b"{":  # an XML document cannot begin so
        return _SavedPlan(source, _plan_of(content, source))
    return _Machine(source, look_of(content, source))


def _this_system() -> _Machine:
    from hwnuma.launch.capture import capture  # only for this

    return _Machine(_THIS_SYSTEM, look_of(capture().document.encode(), _THIS_SYSTEM))


def _machines(one: _Machine, other: _Machine, plans: Callable[[Machine], tuple[Planned, ...]]) -> Difference:
    sides = (_side(one), _side(other))
    changes = tuple(map(change_of, plans(one.look.machine), plans(other.look.machine)))
    return Difference(MACHINES, *sides, tuple(differences(one.look, other.look)), changes)


def _side(machine: _Machine) -> Side:
    return Side(machine.source, str(machine.look.machine.digest))


# ---- plans ---------------------------------------------------------------------------------------------------


def _plans(one: _SavedPlan, other: _SavedPlan) -> Difference:
    before, after = one.plan, other.plan
    sides = (Side(one.source, before.get("machine")), Side(other.source, after.get("machine")))
    found = [
        f"{called}: {excerpt(str(before.get(key)))} \N{RIGHTWARDS ARROW} {excerpt(str(after.get(key)))}"
        for key, called in (("mode", "mode"), ("allowed_cpuset", "allowed CPUs"))
        if before.get(key) != after.get(key)
    ]
    if None not in (before.get("machine"), after.get("machine")) and before["machine"] != after["machine"]:
        found.append("they are plans of machines that are not alike (compare those with hwnuma diff)")
    change: Change = change_of(Planned.of(before), Planned.of(after))  # type: ignore[arg-type]
    return Difference(PLANS, *sides, tuple(found), (change,))


def _plan_of(content: bytes, source: str) -> Mapping[str, Any]:
    """A plan as ``hwnuma plan --format json`` prints it.

    Raises:
        OptionError: it is none, or of a later hwnuma.
    """
    import json  # only for a plan

    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise OptionError(f"{shown(source)} begins as JSON does, and is none ({error})") from None
    wrong = _wrong(data)
    if wrong:
        raise OptionError(f"{shown(source)} is JSON, but no plan of hwnuma plan --format json: {wrong}")
    return data  # type: ignore[no-any-return]


def _wrong(data: Any) -> str:
    """What is wrong with a plan; "" for nothing that matters here."""
    schema = data.get("schema")
    if not isinstance(schema, int) or schema > SCHEMA:
        return f"its schema is {excerpt(repr(schema))}, and this hwnuma knows up to {SCHEMA}"
    if not isinstance(data.get("bindings"), list) or not isinstance(data.get("mode"), str):
        return "it has no bindings or no mode"
    return next(filter(None, map(_wrong_row, data["bindings"])), "")


def _wrong_row(row: Any) -> str:
    if not isinstance(row, dict) or type(row.get("local_rank")) is not int:
        return "one of its bindings has no local_rank"
    which = f"local rank {row['local_rank']}"
    for key, names in (("gpus", {"index"}), ("nics", {"name", "port"})):
        parts = row.get(key, [])
        if not isinstance(parts, list) or not all(isinstance(part, dict) and names <= part.keys() for part in parts):
            return f"the {key} of {which} are none"
    if "error" in row and not (isinstance(row["error"], dict) and isinstance(row["error"].get("type"), str)):
        return f"the error of {which} is none"
    if not all(isinstance(row.get(key, ""), str) for key in ("cpuset", "nodeset", "memory")):
        return f"the cpuset, nodeset or memory of {which} is no text"
    return ""
