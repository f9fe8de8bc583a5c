"""No block of the documentation goes untyped."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.documentation.blocks import PAGES, TYPED, Block, blocks


@pytest.mark.parametrize("block", list(blocks()), ids=str)
def test_a_block_is_typed_by_a_test(block: Block) -> None:
    """It is known which test that is, and it is there."""
    assert block.typed_by, f"nothing types {block}: give it a row in tests/documentation/blocks.py, or call it text"
    assert (ROOT / block.typed_by).exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_has_a_language(page: Path) -> None:
    """What has none is no command: a block says what it is, and then is typed, drawn or parsed accordingly."""
    known = {*TYPED, "text", "yaml", "json", "toml", "ini", "{eval-rst}"}
    fences = re.findall(r"^ *```(\S*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert {fence or "none" for fence in fences[::2]} <= known
