"""``hwnuma bench``: measure memory bandwidth and latency by NUMA node, and say what binding gives here."""

from __future__ import annotations

from hwnuma.cli import bench_job
from hwnuma.cli.exit_status import DONE
from hwnuma.cli.interrupts import UndoneFirst
from hwnuma.cli.options import GPU_OPTIONS
from hwnuma.cli.output import say, say_data
from hwnuma.cli.parsing import OUTPUT, add_options, format_option
from hwnuma.cli.progress import Progress
from hwnuma.cli.terminal import width
from hwnuma.errors import OptionError
from hwnuma.launch.job import Job
from hwnuma.launch.system import load_this_system
from hwnuma.measure.gpus import GpusToMeasure
from hwnuma.measure.limits import memory_of, seconds_of
from hwnuma.measure.matrix import Asked, measure
from hwnuma.model.characters import printable
from hwnuma.model.value import replace
from hwnuma.processes.binding import current_affinity

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from hwnuma.model.measured import Measured

# Of the time, what goes to copies to GPUs, where there are any.
_FOR_GPUS = 0.25


def add_bench_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``hwnuma bench`` takes."""
    bounds = parser.add_argument_group("what it may take")
    bounds.add_argument("--seconds", metavar="SECONDS", default="30", help="how long all of it takes (default: 30)")
    bounds.add_argument(
        "--memory",
        metavar="SIZE",
        help="how much memory it takes at most, on all NUMA nodes together, such as 512M or 4G (default, and never "
        "more: a tenth of what is free on each)",
    )
    bounds.add_argument("--busy", action="store_true", help="measure though others use the CPUs")
    how = parser.add_argument_group("how it is measured")
    how.add_argument(
        "--huge-pages", choices=("on", "off"), default="on", metavar="on|off",
        help="ask for huge pages for the bandwidth (default: on); latency is measured with and without",
    )  # fmt: skip
    add_options(parser, GPU_OPTIONS)
    bench_job.add_compare_arguments(parser)
    output = parser.add_argument_group(OUTPUT)
    format_option(output, ("table", "json"))
    output.add_argument("--output", metavar="FILE", help="draw the matrix as a heat map: .svg, .html, .png or .pdf")


def bench_command(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Run ``hwnuma bench``."""
    if bench_job.is_asked_for(parsed):
        return bench_job.compare_command(parsed, environment)
    memory = None if parsed.memory is None else memory_of(parsed.memory)
    asked = Asked(seconds_of(parsed.seconds), memory, parsed.huge_pages == "on", parsed.busy)
    if parsed.output is not None:
        _drawn_as(parsed.output)
    gpus = GpusToMeasure(Job.asked({option.name: vars(parsed)[option.name] for option in GPU_OPTIONS}, environment))
    with UndoneFirst():
        found = _measured(asked, gpus)
        _show(parsed, found)
        if found.interrupted:
            raise KeyboardInterrupt
    return DONE


def _measured(asked: Asked, gpus: GpusToMeasure) -> Measured:
    """Measure the nodes, and then what the GPUs copy, in a part of the time if there are any."""
    for_gpus = 0.0 if gpus.why_not else _FOR_GPUS * asked.seconds
    found = _measured_nodes(replace(asked, seconds=asked.seconds - for_gpus))
    if found.interrupted:
        return found
    measured, sentences = gpus.measure(for_gpus, asked.memory)
    rows = tuple(each.as_dict() for each in measured)
    return replace(found, gpus=rows, verdict=(*found.verdict, *sentences))


def _measured_nodes(asked: Asked) -> Measured:
    seconds = max(1, round(asked.seconds))
    with load_this_system(pci=False) as topology, Progress(seconds, "seconds") as progress:
        shown = 0

        def advance(part: float) -> None:
            nonlocal shown
            over = int(part * seconds)
            progress.advance(over - shown)
            shown = over

        machine = topology.machine().narrowed(current_affinity(topology))
        return measure(topology, machine, asked, progress=advance)


def _show(parsed: argparse.Namespace, found: Measured) -> None:
    from hwnuma.report.bench import bench_as_data, bench_as_text  # only when there is something to show

    if parsed.output is not None:
        _draw(parsed, found)
    if parsed.format == "json":
        say_data(bench_as_data(found))
    else:
        say(bench_as_text(found, width()))
    if parsed.output is not None:
        say(f"wrote {printable(parsed.output)}")


def _drawn_as(path: str) -> str:
    """What to draw, by the file's ending; said ahead of measuring.

    Raises:
        OptionError: it cannot be drawn.
    """
    from hwnuma.cli import drawing  # only to draw

    kind = drawing.ending(path)
    if kind == drawing.XML:
        raise OptionError("--output: an .xml file holds a topology; a heat map is an .svg, .html, .png or .pdf file")
    return kind


def _draw(parsed: argparse.Namespace, found: Measured) -> None:
    import shlex

    from hwnuma.cli import drawing  # only to draw
    from hwnuma.hwloc.files import write_whole_file
    from hwnuma.report.heat_map import heat_map_as_html, heat_map_as_svg

    kind, command = _drawn_as(parsed.output), f"hwnuma {shlex.join(parsed.words)}"
    if kind == drawing.HTML:
        content = heat_map_as_html(found, command).encode()
    else:
        content = heat_map_as_svg(found, command).encode()
        content = content if kind == drawing.SVG else drawing.converted(content, kind)
    write_whole_file(parsed.output, content)
