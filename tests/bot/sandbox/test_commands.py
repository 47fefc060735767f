import pytest

from bot.records import Test
from bot.sandbox.commands import python_of, script_command, script_name


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
        ("t.what", "x", ()),
        ("t", "#! 'unfinished", ()),
        ("t", "#!", ()),
    ],
)
def test_how_a_script_is_started(path: str, text: str, argv: tuple[str, ...]) -> None:
    scripts = {".rb": ("ruby", "-w", "{script}"), ".ex": ("elixir",)}
    assert script_command(Test(path=path, text=text), "/s", scripts) == argv


def test_the_runner_is_for_plain_python_only() -> None:
    assert python_of(("python3.12", "/s"), "/s") == "python3.12"
    assert python_of(("/usr/bin/pypy3", "/s"), "/s") == "/usr/bin/pypy3"
    assert python_of(("python3", "-O", "/s"), "/s") == ""
    assert python_of(("ruby", "/s"), "/s") == ""


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
