"""Which command runs a package's tests without its linters."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from bot.solver.npm_script import NPM_TEST, last_step, npm_test
from bot.solver.test_runners import narrowed


def command(**scripts: object) -> tuple[str, ...] | None:
    return npm_test(json.dumps({"scripts": scripts}))


def alone(line: str) -> tuple[str, ...]:
    return ("npm", "exec", "--silent", "-c", line)


@pytest.mark.parametrize(
    ("scripts", "line"),
    [
        ({"test": "standard && tape test/*.js"}, "tape test/*.js"),
        ({"test": "mocha && npx --yes prettier --check ."}, "mocha"),
        ({"test": "npm run -s lint && jest", "lint": "yarn style && xo", "style": "prettier -c ."}, "jest"),
        ({"test": "ava", "pretest": "npm run lint", "lint": "eslint ."}, "ava"),
        ({"test": "xo && ava", "pretest": "eslint src"}, "ava"),
        ({"test": "tap", "posttest": "npm run lint", "lint": "npm run eslint", "eslint": "eslint ."}, "tap"),
        ({"test": "tape", "posttest": "npx npm@'>= 10.2' audit --production"}, "tape"),
        ({"test": "tape", "posttest": "aud --production"}, "tape"),
    ],
)
def test_linters_are_left_out(scripts: dict[str, object], line: str) -> None:
    assert command(**scripts) == alone(line)


@pytest.mark.parametrize(
    ("scripts", "steps"),
    [
        ({"test": "eslint . && tsd && mocha 'test/**/*.js' --exit"}, ["tsd", "mocha 'test/**/*.js' --exit"]),
        ({"test": "npm run lint && jest"}, ["npm run lint", "jest"]),  # nobody knows what that is
        (
            {"test": "npm run check && jest", "check": "eslint . && tsc --noEmit"},
            ["npm run check", "jest"],
        ),
        ({"test": "npm run a && jest", "a": "npm run b", "b": "npm run a"}, ["npm run a", "jest"]),
        ({"test": "standard && tape", "pretest": "npm run build", "build": "tsc"}, ["npm run build", "tape"]),
        ({"test": "mocha", "pretest": "npm run build && npm run lint", "lint": "xo"}, ["npm run build", "mocha"]),
        ({"test": "TZ=UTC npm run tz && jest --coverage"}, ["TZ=UTC npm run tz", "jest --coverage"]),
        (
            {"test": "npm run 0 && tape", "5000": "standard"} | {f"{i}": f"npm run {i + 1}" for i in range(5_000)},
            ["npm run 0", "tape"],
        ),
        (
            {"test": "npm run 0 && tape"} | {f"{i}": " && ".join(["npm run x"] * 200) for i in range(40)},
            ["npm run 0", "tape"],
        ),
    ],
)
def test_each_step_runs_though_an_earlier_one_fails(scripts: dict[str, object], steps: list[str]) -> None:
    line = " || failed=1; ".join([*steps, "exit ${failed:-0}"])
    assert command(**scripts) == alone(line)
    assert last_step(line) == steps[-1]


@pytest.mark.parametrize(
    ("steps", "printed", "code"), [("false && echo b", "b\n", 1), ("echo a && echo b", "a\nb\n", 0)]
)
def test_a_step_that_fails_is_the_whole_runs(steps: str, printed: str, code: int) -> None:
    found = command(test=steps)
    assert found is not None
    ended = subprocess.run(["sh", "-c", found[-1]], capture_output=True, text=True)
    assert (ended.stdout, ended.returncode) == (printed, code)


@pytest.mark.parametrize(
    "scripts",
    [
        {"test": "mocha"},
        {"test": "standard"},  # nothing else is tested
        {"test": "standard", "pretest": "npm run build"},
        {"test": "echo 'standard && tape' && mocha"},
        {"test": "(standard && tape) || true"},
        {"test": "standard; tape"},
        {"test": "standard && server & tape"},
        {"test": 'eslint . && sh -c "mocha && tape'},
        {"test": "standard && tape", "pretest": 1},
        {"test": "tape", "posttest": "npm run more", "more": "tape more"},
        {"test": "standard && tape " + "a" * 5_000},
    ],
)
def test_what_is_not_clear_stays_whole(scripts: dict[str, object]) -> None:
    assert command(**scripts) == NPM_TEST


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"scripts": []}', '{"scripts": {"test": 1}}', '{"scripts": {"test": "echo no test specified"}}'],
)
def test_without_a_test_script_there_is_none(text: str) -> None:
    assert npm_test(text) is None


def test_the_tests_of_some_files_run_without_linters_too() -> None:
    tests = {"test/a b.test.js": "import { it } from 'vitest'"}
    assert narrowed(alone("tsd || failed=1; ava || failed=1; exit ${failed:-0}"), tests) == alone(
        "ava 'test/a b.test.js'"
    )
    assert narrowed(alone("node --test"), {"t.js": "require('node:test')"}) == (
        *("node", "--test", "--test-reporter=tap"),
        "t.js",
    )


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_npm_runs_such_a_line_with_the_package_s_programs(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text(json.dumps({"scripts": {"test": "standard && local-tape one"}}))
    program = tmp_path / "node_modules" / ".bin" / "local-tape"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "ok 1 - $1"\n')
    program.chmod(0o755)
    found = npm_test((tmp_path / "package.json").read_text())
    assert found is not None
    done = subprocess.run(found, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "ok 1 - one\n")
