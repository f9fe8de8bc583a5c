"""``hwnuma fleet FILES…|DIR``: captures of many machines as classes that are alike, and how the others differ."""

from __future__ import annotations

import os
from pathlib import Path

from hwnuma.captures.fleet import Broken, classify
from hwnuma.cli.diff import plans_asked
from hwnuma.cli.exit_status import DIFFERENT, DONE, NOTHING_PLANNED
from hwnuma.cli.options import PLAN_OPTIONS
from hwnuma.cli.output import complain, say_data, write
from hwnuma.cli.parsing import OUTPUT, add_options, format_option
from hwnuma.cli.progress import Progress
from hwnuma.errors import OptionError
from hwnuma.model.characters import shown
from hwnuma.model.nic import natural_key
from hwnuma.model.value import replace
from hwnuma.report.fleet import fleet_as_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

# What a folder is searched for.
_WANTED = (".xml", ".xml.gz")


def add_fleet_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``hwnuma fleet`` takes."""
    about = "captures, or folders that are searched for .xml and .xml.gz; a host is a file's name without these endings"
    parser.add_argument("files", metavar="FILE|DIR", nargs="+", help=about)
    add_options(parser, PLAN_OPTIONS)
    format_option(parser.add_argument_group(OUTPUT), ("text", "json"))


def fleet_command(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Run ``hwnuma fleet``."""
    plans = plans_asked(parsed, environment)
    unreadable: list[Broken] = []
    files = list(dict.fromkeys(_files(parsed.files, unreadable)))
    if not files and not unreadable:
        raise OptionError(
            f"there is no .xml and no .xml.gz in {', '.join(map(shown, parsed.files))}: save machines there, such as "
            "by srun --ntasks-per-node=1 hwnuma capture DIR/%N.xml"
        )
    with Progress(len(files), "files") as progress:
        fleet = classify(files, plans, advance=progress.advance)
    fleet = replace(fleet, broken=(*unreadable, *fleet.broken))
    if parsed.format == "json":
        say_data(fleet.as_dict())
    else:
        text = fleet_as_text(fleet)
        write(text if text.endswith("\n") else f"{text}\n")
    if not fleet.classes:
        complain("hwnuma fleet: none of the files is a capture")
        return NOTHING_PLANNED
    return DIFFERENT if fleet.broken or len(fleet.classes) > 1 else DONE


def _files(named: Sequence[str], unreadable: list[Broken]) -> Iterator[str]:
    """The files that are named, and those in folders that are, in natural order; links to folders are not followed."""

    def note(error: OSError) -> None:
        unreadable.append(Broken(str(error.filename), f"cannot read the folder {error.filename}: {error.strerror}"))

    for name in named:
        if not Path(name).is_dir():
            yield name
            continue
        for folder, folders, files in os.walk(name, onerror=note):
            folders.sort(key=natural_key)
            wanted = (file for file in files if file.lower().endswith(_WANTED))
            yield from (str(Path(folder) / file) for file in sorted(wanted, key=natural_key))
