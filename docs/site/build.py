"""Build the documentation's site and check its links: ``python docs/site/build.py``, with the extra ``docs`` installed.

A warning of Sphinx is an error: a reference that leads nowhere, a heading that is not there, a type that is not known.
Then the links of the site itself are followed. Nothing is asked of the network.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import tomllib
from links import broken_links
from pages import ROOT, PageError, lay_out

HERE = Path(__file__).parent


def build(folder: Path) -> None:
    """Lay out the pages and have Sphinx make the site of them.

    All of it is made anew: of a page that Sphinx takes as unchanged it repeats no warning.

    Args:
        folder: where: `html` in it is the site.

    Raises:
        PageError: a page links to what is not there, or is not in docs/README.md.
        subprocess.CalledProcessError: Sphinx failed, or warned.
    """
    for name in ("pages", "doctrees", "html"):
        shutil.rmtree(folder / name, ignore_errors=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lay_out(folder / "pages", project["urls"]["Source"])
    strict = ("--fail-on-warning", "--keep-going", "--nitpicky")
    extra = ("--define", f"html_extra_path={(folder / 'pages' / 'files').resolve()}")
    places = ("--conf-dir", HERE, "--doctree-dir", folder / "doctrees", folder / "pages", folder / "html")
    subprocess.run([sys.executable, "-m", "sphinx", "--quiet", *strict, *extra, *places], check=True)


def check_links(site: Path) -> None:
    """Follow every link within the site, to its anchor.

    Raises:
        PageError: one leads nowhere.
    """
    followed, broken = broken_links(site)
    if broken:
        raise PageError("\n".join(["links that lead nowhere:", *broken]))
    print(f"{followed} links within {len(list(site.rglob('*.html')))} pages of {site}: each leads somewhere")


def main() -> int:
    """Build and check; say in a line why that is not done."""
    parser = argparse.ArgumentParser(description="Build the documentation's site and check its links.")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "docs", help="where (default: build/docs)")
    folder = parser.parse_args().folder
    try:
        build(folder)
        check_links(folder / "html")
    except (PageError, subprocess.CalledProcessError) as error:
        print(f"docs/site/build.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
