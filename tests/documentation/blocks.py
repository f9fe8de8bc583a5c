"""The blocks of the documentation that a reader would type, and which test types each.

A block is typed as it stands, but for what a machine has to have: a job of eight ranks is one of two here (`with_two`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import dedent

from tests.conftest import ROOT

PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *(ROOT / folder / "README.md" for folder in ("changelog.d", "examples/minilauncher")),
    *sorted((ROOT / "docs").rglob("*.md")),
)
TYPED = ("sh", "console", "python")  # the languages; what is a "text" block is printed by something
_BLOCK = re.compile(r"^(?P<indent> *)```(\w*)\n(.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)

# Which test types a block, by the first of these that fits its page and its text. What is not matched fails a test.
_TYPED_BY: tuple[tuple[str, str, str], ...] = (
    (r"README\.md", r"^python3 -m venv", ".ci/run"),
    (r"CONTRIBUTING\.md", r"^python3 -m venv", "tests/documentation/test_clone.py"),
    (r"changelog\.d/README\.md|docs/developers/releasing\.md", r"bin/towncrier", "tests/test_release.py"),
    (r"docs/tutorial\.md", r"^\$ ", "tests/documentation/test_clone.py"),
    (r"docs/.*", r"^\$ hwnuma .*fixtures/", "tests/test_docs.py"),
    (r"docs/how-to/(half-a-machine|no-gpu)\.md", r"hwnuma (plan|exec) ", "tests/documentation/test_commands.py"),
    (r"docs/how-to/testing\.md", r"hwnuma_machine", "tests/test_testing.py"),
    (r"docs/developers/building\.md", r"test_aarch64|^\$ uname", "tests/platforms/test_aarch64.py"),
    (r"docs/developers/building\.md", r".", "tests/packaging"),
    (r"docs/how-to/launchers/dask\.md", r"(?s).", "tests/documentation/test_clusters.py"),
    (r"docs/how-to/launchers/ray\.md", r"(?s).", "tests/documentation/test_clusters.py"),
    (r"docs/how-to/launchers/elastic\.md", r"(?s).", "tests/documentation/test_jobs.py"),
    (r"docs/how-to/frameworks/.*", r"(?s).", "tests/launchers/test_frameworks.py"),
    (r".*", r"(srun|mpirun|mpiexec|torchrun|accelerate|deepspeed|ssh) ", "tests/documentation/test_jobs.py"),
    (r".*", r"^import |^from ", "tests/documentation/test_python.py"),
    (r".*", r"^(\$ )?hwnuma ", "tests/documentation/test_commands.py"),
)  # fmt: skip


@dataclass(frozen=True)
class Block:
    """A block that a reader would type.

    Attributes:
        page: its page, from the root of the repository.
        line: where it begins there, from 1.
        language: what stands behind the backticks.
        text: all between them.
    """

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        """Name it as compilers do."""
        return f"{self.page}:{self.line}"

    @property
    def typed_by(self) -> str:
        """The test that types it; "" if none does."""
        return next(
            (
                who
                for page, text, who in _TYPED_BY
                if re.fullmatch(page, self.page) and re.search(text, self.text, re.MULTILINE)
            ),
            "",
        )

    @property
    def commands(self) -> list[str]:
        """What is typed: each command of a shell, a line that goes on in the next one as one of them."""
        lines = re.sub(r"\\\n\s*", "", self.text).splitlines()
        if self.language == "console":
            return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return [line for line in lines if line and not line.startswith("#")]


def blocks() -> Iterator[Block]:
    """All blocks that are typed, page by page."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in _BLOCK.finditer(text):
            language, typed = found[2], dedent(found[3])
            if language in TYPED:
                yield Block(str(page.relative_to(ROOT)), text[: found.start()].count("\n") + 1, language, typed)


def typed_by(module: str, page: str = "") -> list[Block]:
    """The blocks that a test module types, of one page or of all."""
    return [block for block in blocks() if block.typed_by == module and page in (block.page, "")]


def with_two(command: str) -> str:
    """The same job with two ranks in place of eight, of a CPU each in place of 28, on a machine of two CPUs, not 224."""
    for there, here in (("8", "2"), ("28", "1"), ("224", "2")):
        command = re.sub(rf"(?<=[ =(]){there}(?=[\s,)]|$)", here, command)
    return command
