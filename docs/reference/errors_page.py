"""Write docs/reference/errors.md from the classes of hwnuma.errors: ``python docs/reference/errors_page.py``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

from hwnuma import errors
from hwnuma.cli.exit_status import status_of
from hwnuma.errors import HwnumaError

PAGE = Path(__file__).parent / "errors.md"

_HEAD = """\
# Errors

Every error that hwnuma raises, what to do, and the exit status of a command that it ends. The page is made of the
classes' docstrings by `python docs/reference/errors_page.py`. In Python they are in `hwnuma.errors`, those that a
caller is likely to name in `hwnuma` too; each is picklable, and is one of Python's own kinds besides.

On the command line an error is one line on standard error: what was tried, what was found, what to do. What is
wrong and stops nothing is a warning there, and in Python one of the logger `hwnuma`. What faults tests provoke,
with the line that each gives, is in [Faults](../developers/faults.md).
"""


def classes() -> list[type[HwnumaError]]:
    """All of them, each after the one that it is a kind of."""
    found = [each for each in vars(errors).values() if inspect.isclass(each) and issubclass(each, HwnumaError)]
    return sorted(found, key=found.index)


def page() -> str:
    """The whole page."""
    lines = [_HEAD.rstrip()]
    for error in classes():
        lines += ["", *_section(error)]
    return "\n".join(lines) + "\n"


def _section(error: type[HwnumaError]) -> Iterator[str]:
    about, remedy = (" ".join(part.split()) for part in inspect.getdoc(error).split("\n\nWhat to do: "))
    yield f"## {error.__name__}"
    yield ""
    yield _markdown(about)
    yield ""
    yield f"- **What to do**: {_markdown(remedy)}"
    if error is not HwnumaError:
        yield f"- **Is a**: {', '.join(_linked(base) for base in error.__bases__)}"
        yield f"- **Exit status**: {status_of(error('made to ask'))}"


def _linked(base: type[BaseException]) -> str:
    return f"[{base.__name__}](#{base.__name__.lower()})" if issubclass(base, HwnumaError) else f"`{base.__name__}`"


def _markdown(text: str) -> str:
    """A docstring's sentence, whose code has two backquotes or one, in Markdown."""
    return text.replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(page())
