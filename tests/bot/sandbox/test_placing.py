"""Where a test script lies, and what runs it."""

import textwrap
from pathlib import Path

import pytest

from bot.records import FileChange, SandboxJob, Test
from bot.sandbox.placing import placed
from bot.sandbox.process import ProcessSandbox
from bot.settings import SandboxSettings

MODULE = '{"name": "it", "type": "module", "exports": "./lib/index.js"}'
ASSERTS = "const assert = require('assert');\n"


def tree(root: Path, package: str = '{"name": "it"}', *more: str) -> Path:
    for path in ("lib/index.js", "lib/deep/part.js", "test/old.test.js", "app/models/item.rb", "src/Item.php", *more):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("")
    (root / "package.json").write_text(package)
    return root


@pytest.mark.parametrize(
    ("path", "text", "place"),
    [
        ("test_issue.js", "const it = require(process.cwd() + '/lib/index.js');", "test/test_issue.js"),
        ("test_issue.js", "const it = require('./lib/index.js');", "tree/test_issue.js"),
        ("test_issue.js", "const it = require('../lib');", "tree/test/test_issue.js"),
        ("test_issue.js", "const it = require('..');", "tree/test/test_issue.js"),
        ("test_issue.js", "const it = require('../../lib/index');", "tree/test/unit/test_issue.js"),
        ("tests/x.test.js", "const it = require('../lib/index.js');", "tree/tests/x.test.js"),
        ("test/old.test.js", "const it = require('../lib/index.js');", "tree/test/troop_old.test.js"),
        ("test_issue.js", "const it = require('./part');", "tree/lib/deep/test_issue.js"),
        ("test_issue.js", "const it = path.join(__dirname, '..', 'lib', 'index.js');", "tree/test/test_issue.js"),
        ("test_issue.js", "const it = require('lodash');", "tree/test_issue.js"),
        ("test_issue.js", "import { it } from '../lib/index.js';", "tree/test/test_issue.mjs"),
        ("test_issue.js", "const it = await import(process.cwd() + '/lib/index.js');", "test/test_issue.mjs"),
        ("../../test_issue.js", "const it = require('./nowhere');", "tree/test_issue.js"),
        ("linked/x.js", "const it = require('./nowhere');", "tree/x.js"),
        ("test_issue.rb", "require_relative '../app/models/item'", "tree/test/test_issue.rb"),
        ("test_issue.rb", "require 'set'", "test/test_issue.rb"),
        ("x.rb", "$:.unshift File.expand_path('../app', __dir__)", "tree/test/x.rb"),
        ("x.rb", "$:.unshift File.expand_path('../../app', __FILE__)", "tree/test/x.rb"),
        ("x.rb", "require File.join(__dir__, '..', 'app', 'models', 'item')", "tree/test/x.rb"),
        ("x.php", "<?php require dirname(__DIR__, 2) . '/src/Item.php';", "tree/test/unit/x.php"),
        ("x.php", "<?php\nfinal class ItemTest extends TestCase {}", "tree/ItemTest.php"),
        ("tests/x.php", "<?php\nclass ItemTest extends \\PHPUnit\\TestCase {}", "tree/tests/ItemTest.php"),
        ("test_issue.php", "<?php require __DIR__ . '/../src/Item.php';", "tree/test/test_issue.php"),
        ("test_issue.py", "from . import it", "test/test_issue.py"),
    ],
)  # fmt: skip
def test_a_script_lies_where_what_it_names_is_found(tmp_path: Path, path: str, text: str, place: str) -> None:
    (tree(tmp_path) / "linked").symlink_to("/tmp")
    assert placed(SandboxJob(test=Test(path=path, text=text)), {}, tmp_path).script("tree", "test") == place


@pytest.mark.parametrize(
    ("text", "name"),
    [("require('../lib/index.js');", "x.cjs"), ("import '../lib/index.js';", "x.mjs"), ("export default 1;", "x.mjs")],
)
def test_in_a_package_of_modules_a_script_has_the_ending_of_its_kind(tmp_path: Path, text: str, name: str) -> None:
    job = placed(SandboxJob(test=Test(path="x.js", text=text)), {}, tree(tmp_path, MODULE)).job
    assert job.test is not None
    assert Path(job.test.path).name == name


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("# frozen\nrequire 'it'\n", "# frozen\n$LOAD_PATH.push(Dir.pwd + '/lib'); require 'it'\n"),
        ("class A < Minitest::Test\nend\n", "require 'minitest/autorun'; class A"),
        ("$:.unshift 'lib'\nrequire 'it'\n", "$:.unshift 'lib'"),
        ("require 'set'\n", "require 'set'"),
    ],
)
def test_a_script_in_ruby_gets_what_it_was_to_be_run_with(tmp_path: Path, text: str, begins: str) -> None:
    job = placed(SandboxJob(test=Test(path="x.rb", text=text)), {}, tree(tmp_path, "{}", "lib/it.rb")).job
    assert job.test is not None
    assert job.test.text.startswith(begins)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('import (\n\t"fmt"\n\t"os"\n)\nfunc f() { os.Exit(1) }', ';import (;;\t"os";);func f() { os.Exit(1) }'),
        ("func f() { fmt.Println(1) // os.Exit\n}", '; import "fmt";func f() { fmt.Println(1) // os.Exit;}'),
        ('import "example.com/sort"\nfunc f() { sort.A() }', ';import "example.com/sort";func f() { sort.A() }'),
        ('import is "os"\nfunc f() { log := 1; is.A(log.A) }', ';import is "os";func f() { log := 1; is.A(log.A) }'),
    ],
)  # fmt: skip
def test_go_gets_the_imports_that_it_uses(tmp_path: Path, before: str, after: str) -> None:
    base = tree(tmp_path, "{}", "go.mod")
    job = placed(SandboxJob(test=Test(path="x.go", text=f"package main\n{before}")), {}, base).job
    assert job.test is not None
    assert job.test.text.replace("\n", ";").removeprefix("package main") == after


TESTS = 'import "testing"\nfunc TestA(t *testing.T) {}\n'


@pytest.mark.parametrize(
    ("path", "text", "place", "run"),
    [
        ("x.go", f"package part\n{TESTS}", "tree/lib/deep/x_test.go", "./lib/deep"),
        ("lib/x_test.go", f"package part_test\n{TESTS}", "tree/lib/deep/x_test.go", "./lib/deep"),
        ("x_test.go", f"package it\n{TESTS}", "tree/x_test.go", "./"),
        ("tests/x_test.go", f"package tests\n{TESTS}", "tree/tests/x_test.go", "./tests"),
        ("x_test.go", f"package main\n{TESTS}", "tree/troop_test/x_test.go", "./troop_test"),
        ("x_test.go", "package main\nfunc main() {}\n", "tree/troop_test/x.go", ""),
    ],
)
def test_tests_of_go_lie_in_their_package(tmp_path: Path, path: str, text: str, place: str, run: str) -> None:
    base = tree(tmp_path, "{}", "go.mod")
    (base / "it.go").write_text("package it\n")
    (base / "lib/deep/part.go").write_text("// Package part is one.\npackage part\n")
    found = placed(SandboxJob(test=Test(path=path, text=text)), {}, base)
    assert found.script("tree", "test") == place
    assert ([*found.scripts.get(".go", ())][6:7] or [""]) == [run]


CALLS = "test('it', () => { expect(1).toBe(1); });"


@pytest.mark.parametrize(
    ("text", "has", "runner"),
    [
        (CALLS, ("jest",), "jest"),
        (CALLS, ("mocha", "vitest"), "vitest"),
        (f"import {{ test, expect }} from 'vitest';\n{CALLS}", ("jest", "vitest"), "vitest"),
        (f"import test from 'node:test';\n{CALLS}", ("jest",), "node"),
        (f"function test() {{}}\n{CALLS}", ("jest",), "node"),
        ("console.log(1);", ("jest",), "node"),
        (CALLS, (), "node"),
    ],
)
def test_tests_are_run_by_the_runner_that_they_are_written_for(
    tmp_path: Path, text: str, has: tuple[str, ...], runner: str
) -> None:
    base = tree(tmp_path, '{"name": "it"}', *(f"node_modules/.bin/{name}" for name in has))
    found = placed(SandboxJob(test=Test(path="x.js", text=text)), {}, base)
    assert found.job.test is not None
    assert found.job.test.path == ("x.mjs" if "import" in text else "x.js") if runner == "node" else "x.test.js"
    assert (found.scripts.get(".js", ("", "", "node"))[2], found.folder is None) == (runner, runner == "node")
    kept = {".js": ("node", "{script}")}
    assert placed(SandboxJob(test=Test(path="x.test.js", text=text)), kept, base).scripts == kept


async def test_scripts_as_models_write_them_judge_candidates(tmp_path: Path) -> None:
    """One among the repository's tests, one as for jest, and a module: none of them is there for the candidate."""
    root = tree(tmp_path)
    reads = (
        "let left = 0;\ntry { left = require('fs').readFileSync(process.argv[1]).length; } catch (_) { /* gone */ }\n"
    )
    good, bad = (
        FileChange(path="lib/index.js", text=f"{reads}exports.double = (n) => n * {by} + left;\n") for by in (2, 3)
    )
    scripts = {
        "one.js": f"{ASSERTS}const {{ double }} = require('../lib');\nassert.strictEqual(double(2), 4);\n",
        "two.test.js": textwrap.dedent(f"""\
            {ASSERTS.rstrip()}
            const {{ double }} = require('./lib/index.js');
            describe('double', () => {{ it('doubles', () => {{ assert.strictEqual(double(2), 4); }}); }});
        """),
        "three.js": textwrap.dedent("""\
            import assert from 'assert';
            import it from '../lib/index.js';
            assert.strictEqual(it.double(2), 4);
        """),
    }
    sandbox = await ProcessSandbox.open(SandboxSettings(kind="process", concurrency=1), root)
    try:
        for path, text in scripts.items():
            for change, passes in ((good, True), (bad, False)):
                found = await sandbox.run(SandboxJob(changes=(change,), test=Test(path=path, text=text)))
                assert found.passed is passes, (path, found.output, found.unproven)
    finally:
        await sandbox.close()
