"""Bundles that somebody wrote by hand: refused with the reason, or found out by running them again."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bot.cli.main import cli
from bot.errors import BundleError
from bot.publish.bundle import MAX_BYTES, read, written
from bot.records import Environment, Report, TestConfig
from bot.solver.verification import redacted_tests
from tests.bot.sample import report
from tests.github.repository import run_git

COMMIT = "0" * 40


def plain(**changes: Any) -> dict[str, Any]:
    """A bundle as anybody may write one, with changes by dotted path written as `verdict__winner=1`."""
    found: dict[str, Any] = json.loads(written(made(), ()))
    for path, value in changes.items():
        *parents, last = path.split("__")
        at: Any = found
        for parent in parents:
            at = at[int(parent)] if isinstance(at, list) else at[parent]
        at[int(last) if isinstance(at, list) else last] = value
    return found


def made() -> Report:
    config = TestConfig(command=("pytest", "-q"), scripts={".rb": ("ruby", "{script}")}, image="ruby:3.3")
    environment = Environment(sandbox="process", test_timeout=100.0, config=config)
    return report().model_copy(update={"base_commit": COMMIT, "environment": environment, "seed": 7})


def why(data: bytes) -> str:
    with pytest.raises(BundleError) as caught:
        read(data)
    return str(caught.value)


def test_a_bundle_is_read_as_it_was_written() -> None:
    bundle = read(written(made(), ()).encode())
    assert bundle.verdict == made().verdict
    assert (bundle.base_commit, bundle.parent, bundle.seed, bundle.environment.sandbox) == (
        COMMIT,
        COMMIT,
        7,
        "process",
    )


def test_a_bundle_of_an_earlier_troop_is_read() -> None:
    old = plain(schema_version=1)
    del old["environment"]["config"]
    assert read(json.dumps(old).encode()).environment.config is None
    assert read(json.dumps(plain()).encode()).environment.config == made().environment.config


def test_secrets_are_not_in_it() -> None:
    tests = made().verdict.ballot.tests
    told = made().verdict.ballot.model_copy(
        update={"tests": (tests[0].model_copy(update={"text": "key = 'hunter2-hunter2'"}), *tests[1:])}
    )
    leaky = made().model_copy(update={"verdict": made().verdict.model_copy(update={"ballot": told})})
    text = written(leaky, ("hunter2-hunter2",))
    assert "hunter2" not in text
    bundle = read(text.encode())
    assert bundle.verdict.ballot.tests[0].text == "key = '[redacted]'"
    assert [words.split(",")[0] for words in redacted_tests(bundle)] == [
        "what looks like a credential was taken out of T1"
    ]
    assert redacted_tests(read(written(made(), ()).encode())) == ()


CHANGE = "verdict__ballot__candidates__0__patch__changes__0"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({f"{CHANGE}__path": "../outside.py"}, "is not a plain path"),
        ({f"{CHANGE}__path": "/etc/passwd"}, "is not relative"),
        ({f"{CHANGE}__path": ".git/hooks/pre-commit"}, "git's own folder"),
        ({f"{CHANGE}__path": "a\\b"}, "backslash"),
        ({f"{CHANGE}__encoding": "rot13"}, "is not 'rot13'"),
        ({f"{CHANGE}__encoding": "zlib"}, "is not 'zlib'"),
        ({f"{CHANGE}__text": 5}, "text"),
        ({f"{CHANGE}__link": "/etc"}, "link"),
        ({"verdict__ballot__tests__0__path": "../t.py"}, "is not the name of a file"),
        ({"verdict__ballot__tests__0__path": "sub/t.py"}, "is not the name of a file"),
        ({"verdict__ballot__cells": []}, "does not have a cell"),
        ({"verdict__ballot__cells__0__0": "yes"}, "cells"),
        ({"verdict__ballot__cells__0__0": 1}, "cells"),
        ({"verdict__ballot__base": []}, "does not have a cell"),
        ({"verdict__ballot__struck": [99]}, "a test is named"),
        ({"verdict__ballot__unsteady": [99]}, "a test is named"),
        ({"verdict__own_tests": {"documented": [{"candidate": 99}]}}, "a candidate is named"),
        ({"verdict__ballot__candidates__0__tests": [-1]}, "a test is named"),
        ({"verdict__ballot__candidates__0__parents": [99]}, "a candidate is named"),
        ({"verdict__winner": 99}, "a candidate is named"),
        ({"verdict__winner": -1}, "a candidate is named"),
        ({"verdict__winner": None}, "has a winner"),
        ({"verdict__standings": []}, "each candidate once"),
        ({"base_commit": "--upload-pack=touch /tmp/x"}, "not a full hash"),
        ({"base_commit": "HEAD"}, "not a full hash"),
        ({"reviewed_commit": COMMIT}, "not one for each"),
        ({"environment__test_timeout": 1e9}, "seconds"),
        ({"environment__test_timeout": float("nan")}, ""),
        ({"seed": "7"}, "seed"),
        ({"seed": True}, "seed"),
        ({"extra": 1}, "extra"),
        ({"kind": "another"}, "not a bundle"),
        ({"environment__config__command": ["sh", "a\0b"]}, "config.command.1: String should match"),
        ({"environment__config__command": ["x" * 10_001]}, "at most 2000"),
        ({"environment__config__setup": "a\x1b[2J"}, "config.setup: String should match"),
        ({"environment__config__setup": ["a"]}, "setup"),
        ({"environment__config__image": "--privileged"}, "not an image's name"),
        ({"environment__config__timeout": 1e9}, "less than or equal to 86400"),
        ({"environment__config__timeout": 0.0}, "greater than 0"),
        ({"environment__config__scripts": {".py": ["true"]}}, "must contain {script}"),
        ({"environment__config__scripts": {"py": ["sh", "{script}"]}}, "endings look like"),
        ({"environment__config__network": True}, "network"),
        ({"schema_version": 3}, "update Troop"),
        ({"schema_version": 10**30}, "update Troop"),
        ({"schema_version": 0}, "schema_version"),
        ({"schema_version": "1"}, "schema_version"),
        ({"schema_version": True}, "schema_version"),
    ],
    ids=lambda value: ",".join(value)[-60:] if isinstance(value, dict) else "",
)
def test_what_is_wrong_in_itself_is_refused(changes: dict[str, Any], words: str) -> None:
    assert words in why(json.dumps(plain(**changes)).encode())


def test_a_number_without_end_is_refused() -> None:
    text = json.dumps(plain()).replace('"seed": 7', f'"seed": {"9" * 5000}')
    assert "not JSON" in why(text.encode())


def test_the_same_path_twice_is_refused() -> None:
    found = plain()
    changes = found["verdict"]["ballot"]["candidates"][0]["patch"]["changes"]
    changes.append(changes[0])
    assert "is changed twice" in why(json.dumps(found).encode())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no JSON object"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "archives"),
        (b"PK\x03\x04", "archives"),
        (b"[" * 100_000, "no JSON object"),
        (b'{"a":' * 100_000, "nests deeper"),
        (b'{"a":"' + b"[" * 1000 + b'"}', "not a bundle"),
        (b'{"a":"\\"[[[[' + b'\\"[' * 500_000, "not JSON"),
        (b'{"kind": "troop bundle"', "not JSON"),
        (b'{"kind": "troop bundle", "schema_version": 1}', "Field required"),
        (b'{"kind": "\xff"}', "not JSON"),
        (b"{" + b" " * MAX_BYTES + b"}", "more than"),
    ],
    ids=[
        "empty",
        "gzip",
        "zip",
        "list",
        "deep",
        "brackets in a string",
        "endless string",
        "cut",
        "bare",
        "bytes",
        "large",
    ],
)
def test_what_is_no_bundle_is_refused(data: bytes, words: str) -> None:
    assert words in why(data)


def test_the_command_says_so_with_its_own_exit_code(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text(json.dumps(plain()))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    run_git("init", "--quiet", str(tmp_path / "repo"), cwd=tmp_path)

    def told(name: str, *options: str) -> tuple[int, str]:
        arguments = ["verify", str(tmp_path / name), "--repo", str(tmp_path / "repo"), "--sandbox", "process", *options]
        done = CliRunner().invoke(cli, arguments)
        return done.exit_code, done.output

    checks: list[tuple[str, Callable[[str], bool]]] = [
        ("pipe", lambda said: "is not a file" in said),
        ("link", lambda said: "is not a file" in said),
        ("none", lambda said: "No such file" in said),
        ("bundle.json", lambda said: f"does not have the commit {COMMIT}" in said),
    ]
    for name, right in checks:
        code, said = told(name)
        assert (code, right(said)) == (2, True), said
    code, said = told("bundle.json", "--json")
    assert code == 2
    assert json.loads(said.splitlines()[-1])["same"] is None
