"""``hwnuma capture``: save this machine, or print the facts that are kept beside its topology."""

from __future__ import annotations

from hwnuma.captures.document import summary
from hwnuma.cli.exit_status import DONE
from hwnuma.cli.output import complain, say_data, write_bytes
from hwnuma.cli.parsing import OUTPUT
from hwnuma.errors import OptionError
from hwnuma.hwloc.topology import Topology
from hwnuma.launch.capture import capture
from hwnuma.report.data import facts_as_data

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from hwnuma.model.machine import Machine


def add_capture_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``hwnuma capture`` takes."""
    parser.add_argument(
        "file",
        metavar="FILE.xml",
        nargs="?",
        help="where to: .xml or .xml.gz; %%N or %%h is the host's short name, %%%% a percent; - for standard output",
    )
    what = parser.add_argument_group("what is saved")
    what.add_argument(
        "--anonymize",
        action="store_true",
        help="leave out serial numbers, addresses of networks and hosts' names, put stand-ins in the place of UUIDs, "
        "and say what was left out",
    )
    what.add_argument("--serials", action="store_true", help="save the GPUs' serial numbers too")
    output = parser.add_argument_group(OUTPUT)
    output.add_argument(
        "--facts", action="store_true", help="print as JSON what is saved beside the topology, and write no file"
    )
    output.add_argument(
        "--topology", metavar="FILE", help="with --facts: those of a capture, instead of this machine's"
    )


def capture_command(parsed: argparse.Namespace, _environment: Mapping[str, str]) -> int:
    """Run ``hwnuma capture``."""
    if parsed.facts == (parsed.file is not None) or (parsed.topology is not None and not parsed.facts):
        raise OptionError("name a file to save the machine in, or say --facts (of a capture: --facts --topology FILE)")
    if parsed.topology is not None:
        with Topology.from_xml_file(parsed.topology) as topology:
            _print_facts(topology.machine())
        return DONE
    captured = capture(anonymous=parsed.anonymize, serials=parsed.serials)
    if parsed.facts:
        _print_facts(captured.machine, "this system")
    elif parsed.file == "-":
        write_bytes(captured.document.encode())
    else:
        captured.save(parsed.file)
    for line in summary(captured.left_out) if parsed.anonymize else ():
        complain(f"hwnuma capture: left out: {line}")
    return DONE


def _print_facts(machine: Machine, source: str | None = None) -> None:
    if machine.facts is None:
        raise OptionError(
            f"{source or machine.source} is a topology alone, with nothing saved beside it: save it with hwnuma "
            "capture, on the machine itself"
        )
    say_data({**facts_as_data(machine, machine.facts), "topology": source or machine.source})
