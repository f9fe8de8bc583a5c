"""How Sphinx makes the site of what pages.py lays out; build.py runs it."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

# Types of Python's own and of launchers, and variables of types: they have no page here.
_ELSEWHERE = (r"(collections|os|pathlib|distributed|torch|ray)\..*", r".*\b_[A-Z][a-z]\w*")

project = "hwnuma"
author = "The hwnuma developers"
project_copyright = author
version = release = importlib.metadata.version("hwnuma")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
nitpicky = True
highlight_language = "none"
smartquotes = False  # `--option` in a sentence is two hyphens

# Headings have the anchors that GitHub gives them; a picture has a class.
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_inline"]

napoleon_use_ivar = True  # a class's attributes as one list
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_mock_imports = ["torch", "ray", "distributed", "dask"]  # launchers' own: an integration is described without
default_role = "py:obj"  # `bind` in a docstring leads to bind
python_use_unqualified_type_names = True
nitpick_ignore_regex = [("py:class", names) for names in _ELSEWHERE]

html_theme = "furo"
html_title = f"hwnuma {version}"
html_static_path = [str(HERE / "static")]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = False
html_use_index = False
html_domain_indices = False


# Stands for a colon while Napoleon has the docstring: a character of nobody's.
_COLON = "\ue000"


def setup(app: Any) -> None:
    """Tell Sphinx what it gets wrong by itself."""
    app.connect("autodoc-process-docstring", _hide_colons, priority=100)
    app.connect("autodoc-process-docstring", _show_colons, priority=900)
    app.connect("missing-reference", _by_its_last_name)


def _hide_colons(_app: Any, what: str, _name: str, _of: Any, _options: Any, lines: list[str]) -> None:
    """Napoleon takes what stands ahead of a colon, in the first line about an attribute, for its type."""
    if what in {"attribute", "data", "property"} and lines:
        lines[0] = lines[0].replace(":", _COLON)


def _show_colons(_app: Any, _what: str, _name: str, _of: Any, _options: Any, lines: list[str]) -> None:
    lines[:] = [line.replace(_COLON, ":") for line in lines]


def _by_its_last_name(app: Any, env: Any, node: Any, text: Any) -> Any:
    """Find what a docstring names as its own module does: `Machine`, and it is hwnuma.Machine here.

    What a docstring only writes as code, such as a command, is no reference.
    """
    if node.get("refdomain") != "py":
        return None
    domain, target = env.get_domain("py"), node["reftarget"]
    suffix = f".{target.rpartition('.')[2] if node['reftype'] == 'class' else target}"
    found = {name for name, of in domain.objects.items() if name.endswith(suffix) and not of.aliased}
    if len(found) == 1:
        return domain.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], *found, node, text)
    return text if node["reftype"] == "obj" else None
