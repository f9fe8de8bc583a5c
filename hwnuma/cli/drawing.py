"""Drawings, on the terminal and as files: what ``hwnuma show`` and ``hwnuma plan --draw`` import, and only they."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from hwnuma.cli import terminal
from hwnuma.errors import OptionError
from hwnuma.hwloc.files import write_whole_file
from hwnuma.model.characters import excerpt
from hwnuma.report.terminal import picture_as_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hwnuma.report.picture import Picture


# What `--output` writes, by the file's ending.
PDF, PNG, SVG, HTML, XML = ".pdf", ".png", ".svg", ".html", ".xml"


def on_terminal(pictures: Sequence[Picture], environment: Mapping[str, str]) -> str:
    """Draw pictures for standard output: as wide as the terminal is, and in colour if it has any."""
    colours = terminal.has_colours(sys.stdout, environment)
    return "\n".join(f"{picture_as_text(picture, terminal.width(), colours=colours)}\n" for picture in pictures)


def ending(path: str) -> str:
    """The kind of a file that is to be written, by its ending.

    Raises:
        OptionError: it is none that can be written.
    """
    kind = Path(path).suffix.lower()
    if kind not in (SVG, HTML, PNG, PDF, XML):
        raise OptionError(f"--output {excerpt(path)}: its ending says what to write: .svg, .html, .png, .pdf or .xml")
    return kind


def write(path: str, pictures: Sequence[Picture], words: Sequence[str], document: str) -> None:
    """Write pictures to a file.

    Args:
        path: where to; its ending says what.
        pictures: what to draw.
        words: the command line that asks for it.
        document: the machine's topology as libhwloc exports it, for ``.xml``.

    Raises:
        OptionError: the file cannot be written, or what makes it is missing.
    """
    kind, command = ending(path), f"hwnuma {shlex.join(words)}"
    if kind == XML:
        content = _xml(pictures, command, document).encode()
    elif kind == HTML:
        from hwnuma.report.html import pictures_as_html  # only for this file

        content = pictures_as_html(pictures, command).encode()
    else:
        from hwnuma.report.svg import pictures_as_svg  # likewise

        content = pictures_as_svg(pictures, command).encode()
        content = content if kind == SVG else converted(content, kind)
    write_whole_file(path, content)


def _xml(pictures: Sequence[Picture], command: str, document: str) -> str:
    from hwnuma.hwloc.annotate import annotated_xml  # only for this file: it has an XML parser
    from hwnuma.report.lstopo import notes_of

    if len(pictures) != 1:
        raise OptionError("an .xml file holds one plan: compare in an .svg or .html file")
    notes = notes_of(pictures[0], command)
    return annotated_xml(document, cpus=notes.cpus, devices=notes.devices, labels=notes.labels, root=notes.root)


# ---- PNG and PDF ---------------------------------------------------------------------------------------------


def converted(svg: bytes, kind: str) -> bytes:
    """Make a PNG or a PDF of an SVG.

    Args:
        svg: the document.
        kind: the file's ending.

    Raises:
        OptionError: what makes it is missing, or fails.
    """
    for convert in (_by_cairosvg, _by_librsvg):
        made = convert(svg, kind)
        if made is not None:
            return made
    raise OptionError(
        f"a {kind} file is made of the .svg by CairoSVG (pip install 'hwnuma[pictures]') or by rsvg-convert (Debian: "
        "librsvg2-bin), and neither is here; .svg and .html need nothing"
    )


def _by_cairosvg(svg: bytes, kind: str) -> bytes | None:
    try:
        import cairosvg
    except (ImportError, OSError):  # it is not installed, or the libcairo that it loads is not
        return None
    convert: Callable[..., bytes] = cairosvg.svg2png if kind == PNG else cairosvg.svg2pdf
    return convert(bytestring=svg, scale=2)  # twice the pixels: sharp on a slide


def _by_librsvg(svg: bytes, kind: str) -> bytes | None:
    program = shutil.which("rsvg-convert")
    if program is None:
        return None
    command = [program, "--format", kind.lstrip("."), "--zoom", "2"]
    done = subprocess.run(  # noqa: S603 -- a program of the user's PATH, told of two constants
        command, input=svg, capture_output=True, check=False
    )
    if done.returncode:
        raise OptionError(f"rsvg-convert fails: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
