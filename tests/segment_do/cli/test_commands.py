"""What holds for every command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import typer

from segment_do.cli import app as application
from segment_do.cli.app import GROUP, app
from segment_do.errors import SettingsError
from tests.segment_do.cli.api import Api
from tests.segment_do.cli.conftest import run

DOCS = Path(__file__).parents[3] / "docs" / "cli.md"


def commands() -> list[tuple[str, Any]]:
    """Every command by its full name, those of other packages left out."""
    found: list[tuple[str, Any]] = []

    def walk(prefix: str, group: Any) -> None:
        for name, command in group.commands.items():
            full = f"{prefix} {name}".strip()
            if hasattr(command, "commands"):
                walk(full, command)
            else:
                found.append((full, command))

    walk("", typer.main.get_command(app))
    return found


@pytest.mark.parametrize(("name", "command"), commands(), ids=[name for name, _ in commands()])
def test_every_command_has_help(name: str, command: Any) -> None:
    """Each command says in a sentence what it does, and each of its options too."""
    assert command.help
    assert command.get_short_help_str(200).endswith(".")
    for param in command.params:
        assert getattr(param, "help", None), f"{name} {param.name}"
    ran = run(*name.split(), "--help")
    assert ran.code == 0
    assert "Usage:" in ran.out


@pytest.mark.parametrize("name", [*[name for name, _ in commands()], "dev"])
def test_every_command_is_documented(name: str) -> None:
    """docs/cli.md has a heading for each command, and an example that calls it."""
    text = DOCS.read_text()
    assert re.search(rf"^### `{name}\b", text, re.MULTILINE), name
    assert f"segment-do {name}" in text


def test_docs_name_no_command_that_is_gone() -> None:
    """Headings of docs/cli.md are commands."""
    known = {name for name, _ in commands()} | {"dev"}
    for heading in re.findall(r"^### `([a-z ]+)", DOCS.read_text(), re.MULTILINE):
        assert heading.strip() in known


@pytest.mark.parametrize("name", [name for name, command in commands() if name != "version"])
def test_every_command_takes_home(name: str) -> None:
    """--home may stand after any command that finds the platform by it."""
    command = dict(commands())[name]
    assert "home" in {param.name for param in command.params}


@pytest.mark.parametrize(
    "args",
    [
        ["nonsense"],
        ["sources", "create"],
        ["sql"],
        ["sql", "SELECT 1", "--file", "x"],
        ["send"],
        ["send", "somewhere"],
        ["send", "-", "--event", "E"],
        ["send", "--file", "x", "-"],
        ["rejected", "--limit", "0"],
        ["profile", "tom", "u1"],
        ["destinations", "replay", "dst_1"],
        ["destinations", "replay", "dst_1", "--dead", "--from-offset", "1"],
        ["send", "--event", "E", "--timeout", "-1"],
    ],
    ids=" ".join,
)
def test_wrong_calls(home: Path, args: list[str]) -> None:
    """A command called wrongly: exit code 2, the usage on stderr, nothing on stdout, no request."""
    ran = run(*args)
    assert (ran.code, ran.out) == (2, "")
    assert "Error:" in ran.err


def test_version(home: Path) -> None:
    """`version` and `--version` print it and need no platform."""
    from segment_do.version import __version__

    assert run("version").out == run("--version").out == f"{__version__}\n"
    assert run("version", "--json").rows[0]["version"] == __version__


def test_interrupt_is_130(api: Api) -> None:
    """Ctrl-C ends a command with exit code 130 and no traceback."""
    command = [sys.executable, "-m", "segment_do.cli", "tail", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "Waiting for events. Ctrl-C ends it.\n"
        process.send_signal(2)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (130, "", "")


def test_closed_pipe_is_quiet(api: Api) -> None:
    """A reader that leaves (`| head`) ends the command without a traceback."""
    api.sql = b'{"columns":["n"],"rows":[%b],"elapsedMs":1,"truncated":false}' % b",".join([b"[1]"] * 50_000)
    command = [sys.executable, "-m", "segment_do.cli", "sql", "SELECT", "--json"]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ran = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=20)
    finally:
        os.close(writing)
    assert (ran.returncode, ran.stderr) == (1, "")


class _Plugin:
    """Stands for the entry points of installed packages."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **objects: str) -> None:
        points = {name: EntryPoint(name, value, GROUP) for name, value in objects.items()}
        monkeypatch.setattr(application, "_plugins", lambda: points)


def hello(name: str) -> None:
    """Say hello."""
    typer.echo(f"hello {name}")


def fail() -> None:
    """Fail."""
    raise SettingsError("The port is taken.", hint="Take another.")


def test_commands_of_other_packages(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function declared in `segment_do.commands` is a command, with its arguments, its help and its errors."""
    _Plugin(monkeypatch, hello=f"{__name__}:hello", fail=f"{__name__}:fail")
    assert run("hello", "tom").out == "hello tom\n"
    assert "Say hello." in run("--help").out
    assert run("hello").code == 2
    ran = run("fail")
    assert (ran.code, ran.err) == (1, "Error: The port is taken.\n  Take another.\n")


def test_broken_commands_of_other_packages(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot be loaded says why when it is called, and costs no other command anything."""
    _Plugin(monkeypatch, dev="not_installed_here:dev_command", version=f"{__name__}:fail")
    assert run("--help").code == 0
    ran = run("dev")
    assert ran.code == 1
    assert ran.err.startswith(
        "Error: The command dev (not_installed_here:dev_command) cannot be loaded: ModuleNotFound"
    )
    assert run("version").code == 0, "own commands are not replaced"


def test_without_typer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where only the SDK is installed, `segment-do` says what is missing."""
    from segment_do.cli import main

    monkeypatch.delitem(sys.modules, "segment_do.cli.app")
    monkeypatch.setitem(sys.modules, "typer", None)
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    assert "pip install segment-do[server]" in capsys.readouterr().err
