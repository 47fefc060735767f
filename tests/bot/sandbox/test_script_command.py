import pytest

from bot.records import Test
from bot.sandbox.script_command import (
    in_short,
    joined_path,
    provable,
    script_command,
    script_name,
    split_environment,
)
from bot.sandbox.script_end import with_end


@pytest.mark.parametrize(
    ("path", "text", "argv"),
    [
        ("t.py", "x", ("python3", "/s")),
        ("t.py", "#!/usr/bin/env python2\n", ("python3", "/s")),
        ("t.sh", "x", ("sh", "/s")),
        ("t.sh", "#!/bin/bash -eu\n", ("bash", "-eu", "/s")),
        ("t", "#!/usr/bin/env -S node --test\n", ("node", "--test", "/s")),
        ("t", "#!/opt/own/tool\n", ("/opt/own/tool", "/s")),
        ("t.rb", "x", ("ruby", "-w", "/s")),
        ("t.PY", "x", ("python3", "/s")),
        ("t.ex", "x", ("elixir", "/s")),
        ("t.exs", "x", ("elixir", "/s")),
        ("t.spec.js", "x", ("node", "--test", "/s")),
        ("a.b/t.JS", "x", ("node", "/s")),
        ("t.what", "x", ()),
        ("t", "#! 'unfinished", ()),
        ("t", "#!", ()),
    ],
)
def test_how_a_script_is_started(path: str, text: str, argv: tuple[str, ...]) -> None:
    scripts = {".rb": ("ruby", "-w", "{script}"), ".ex": ("elixir",), ".spec.js": ("node", "--test", "{script}")}
    assert script_command(Test(path=path, text=text), "/s", scripts) == argv


@pytest.mark.parametrize(
    ("ending", "text", "ended"),
    [
        (".exs", "IO.puts(1)\n", "IO.puts(1)\nSystem.halt(7)\n"),
        (".exs", "if x, do: System.halt(1)\n", "if x, do: System.halt(1)\nSystem.halt(7)\n"),
        (".exs", "System.halt 0", None),
        (".exs", "ExUnit.start()\n", None),
        (".jl", "exit(2)", "exit(2)\nexit(7)\n"),
        (".jl", "exit()", None),
        (".r", "quit(status = 1)", "quit(status = 1)\nquit(status = 7)\n"),
        (".r", "q()", None),
    ],
)
def test_a_script_that_does_not_end_itself_ends_with_a_code(ending: str, text: str, ended: str | None) -> None:
    assert with_end(ending, text, 7, []) == ended


def test_what_the_runner_can_prove() -> None:
    assert provable(("python3.12", "/s"), "/s") == (("python3.12",), "runner.py", ("/s",))
    assert provable(("/usr/bin/pypy3", "/s"), "/s") == (("/usr/bin/pypy3",), "runner.py", ("/s",))
    asked = ("-m", "pytest", "-q", "/s")
    assert provable(("python3", *asked), "/s") == (("python3",), "runner.py", asked)
    assert provable(("python", "-m", "unittest")) == (("python",), "runner.py", ("-m", "unittest"))
    assert provable(("node", "/s"), "/s") == (("node",), "runner.cjs", ("/s",))
    flags = ("node", "--no-warnings", "--require=./a.js")
    assert provable((*flags, "/s"), "/s") == (flags, "runner.cjs", ("/s",))
    flags = ("python3", "-X", "dev", "-bb")
    assert provable((*flags, "/s"), "/s") == (flags, "runner.py", ("/s",))
    for command in (
        ("python3", "-O", "/s"),
        ("python3", "-m"),
        ("python3",),
        ("ruby", "/s"),
        ("node", "--test", "/s"),
        ("node", "-m", "x"),
        ("python3", "manage.py"),
        (),
    ):
        assert provable(command, "/s") is None


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/b/test_x.py", "test_x.py"),
        ("../..", "test"),
        ("$(id).sh", "__id_.sh"),
        (".hidden.py", "hidden.py"),
        ("", "test"),
    ],
)
def test_the_scripts_name_is_plain(path: str, name: str) -> None:
    assert script_name(Test(path=path, text="")) == name


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("python3 -m pytest -q -rfE", "python3 -m pytest …"),
        ("make test", "make test"),
        ("go test ./...", "go test ./..."),
        ("cargo test --offline x", "cargo test …"),
        ("sh -c true", "sh -c true"),
        ("env PYTHONPATH=src pytest -q", "PYTHONPATH=src pytest …"),
        ("env -i pytest", "env …"),
    ],
)
def test_a_command_in_short(command: str, words: str) -> None:
    assert in_short(command.split()) == words


@pytest.mark.parametrize(
    ("argv", "named", "rest"),
    [
        (("env", "A=1", "B=x y", "pytest", "C=2"), {"A": "1", "B": "x y"}, ("pytest", "C=2")),
        (("env", "-u", "A", "pytest"), {}, ("env", "-u", "A", "pytest")),
        (("env", "A=1"), {}, ("env", "A=1")),
        (("env", "A=1", "-i", "x"), {}, ("env", "A=1", "-i", "x")),
        (("pytest", "A=1"), {}, ("pytest", "A=1")),
        ((), {}, ()),
    ],
)
def test_variables_are_told_from_what_runs(argv: tuple[str, ...], named: dict[str, str], rest: tuple[str, ...]) -> None:
    assert split_environment(argv) == (named, rest)


def test_a_python_path_of_the_commands_own_comes_before_ours() -> None:
    assert joined_path("", "/r:/r/src", "/r") == "/r:/r/src"
    assert joined_path("a:/abs:.", "/r:/r/src", "/r") == "/r/a:/abs:/r:/r/src"
