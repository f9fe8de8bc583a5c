"""Help that is read: 80 columns, groups, examples that work, exit statuses, and a page that is there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hwnuma.cli.commands import COMMANDS
from hwnuma.cli.completion import SHELLS
from hwnuma.cli.help import HELP
from hwnuma.cli.main import main, whole_parser
from hwnuma.cli.manual import page
from tests.conftest import ROOT
from tests.test_cli import run
from tests.test_option_table import EVERY_OPTION


def test_every_command_has_its_help() -> None:
    """The table of help and that of commands name the same."""
    assert HELP.keys() == COMMANDS.keys()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("columns", ["80", "200", "60"])
def test_help_is_no_wider_than_80_columns(
    command: str, columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And than the terminal; options stand under headings; examples, statuses and the page follow."""
    monkeypatch.setenv("COLUMNS", columns)

    def helped(*words: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        assert ended.value.code == 0
        return capsys.readouterr().out

    text = helped("help", command)
    options = text.partition("examples:")[0]
    assert max(map(len, options.split("\n"))) <= min(80, int(columns))
    assert text == helped(command, "--help")
    assert "examples:\n  " in text
    assert "exit status: " in text
    said = re.search(r"^documentation: (\S+)$", text, re.MULTILINE)
    assert said is not None
    assert (ROOT / said[1]).is_file()


def test_the_overview_is_no_wider_either() -> None:
    """It names every command under a heading, and what else there is."""
    text = run("--help").stdout
    assert max(map(len, text.split("\n"))) <= 80
    assert re.findall(r"^  (\w+) {2,}[A-Z]", text, re.MULTILINE) == [
        name
        for group in dict.fromkeys(said.group for said in HELP.values())
        for name in HELP
        if HELP[name].group == group
    ]
    assert run("help").stdout == text
    assert run(status=2).stderr == text


def test_no_metavar_is_a_sentence() -> None:
    """Three words at most stand for a value; more of them are in the text."""
    for option in EVERY_OPTION:
        action = next(
            action
            for command in ("bind", "exec")
            for action in _actions(command)
            if option.flag in action.option_strings
        )
        assert len(re.split(r"[|,]", str(action.metavar or ""))) <= 3


def _actions(command: str) -> list:
    [commands] = [each for each in whole_parser()._actions if each.dest == "command"]
    return commands.choices[command]._actions


@pytest.mark.parametrize("example", [example for said in HELP.values() for example in said.examples])
def test_every_example_is_a_command_line(example: str) -> None:
    """Its options are there, and hwnuma's part of it is parsed."""
    [(before, words)] = [(words[:place], words[place + 1 :]) for words in [shlex.split(example)]
                         for place, word in enumerate(words) if word == "hwnuma"][:1]  # fmt: skip
    assert "hwnuma" not in before
    if words[0] == "exec":
        from hwnuma.cli.options import EXEC_OPTIONS, texts_of

        assert texts_of(words[1:], EXEC_OPTIONS)[1][0] == "python"
    else:
        end = next((place for place, word in enumerate(words) if word in ("|", "--")), len(words))
        assert whole_parser().parse_args(words[:end]).command == words[0]


def test_version_has_a_short_option() -> None:
    """-V, as most programs have."""
    assert run("-V").stdout == run("--version").stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_its_completion(shell: str) -> None:
    """The script names every command and every option."""
    script = run("--print-completion", shell).stdout
    assert all(command in script for command in COMMANDS)
    assert all(option.flag.lstrip("-") in script for option in EVERY_OPTION)


def test_completion_needs_shtab_and_a_shell_that_it_knows(tmp_path: Path) -> None:
    """Each is one line that says what to do."""
    (tmp_path / "shtab.py").write_text("raise ImportError")
    error = run("--print-completion", "bash", status=2, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}").stderr
    assert (
        error
        == "hwnuma: --print-completion is made by shtab, which is not installed: pip install 'hwnuma[completion]'\n"
    )
    assert "'tcsh' is neither bash nor zsh nor fish" in run("--print-completion", "tcsh", status=2).stderr


def test_the_manual_page_is_what_the_declarations_give(pytestconfig: pytest.Config) -> None:
    """docs/reference/hwnuma.1; --update-golden writes it anew."""
    path = ROOT / "docs" / "reference" / "hwnuma.1"
    if pytestconfig.getoption("--update-golden"):
        path.write_text(page())
    written = path.read_text()
    assert written == page()
    for option in EVERY_OPTION:
        assert f".B {option.flag}".replace("-", "\\-") in written
        assert option.variable in written


@pytest.mark.parametrize(("module", "file"), [("manual", "hwnuma.1"), ("reference", "options.md")])
def test_a_page_is_printed_by_its_module(module: str, file: str) -> None:
    """As CONTRIBUTING.md says to make it anew."""
    command = [sys.executable, "-m", f"hwnuma.cli.{module}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == (ROOT / "docs" / "reference" / file).read_text()
