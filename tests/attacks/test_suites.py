"""Attack 25 on files of JavaScript tests that a config gives to a runner: candidates that replace what judges for some
values alone, skip tests, read the file, or fail wherever they find themselves doubted."""

import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest

from bot.records import FileChange, SandboxJob, Test
from bot.sandbox.doubted import doubted
from tests.attacks.configured import configured
from tests.patience import PATIENCE

SUITE = """const { describe, it } = require("node:test");
const assert = require("assert");
const core = require(process.cwd() + "/core.js");

describe("sums", () => {
  it("is a sum", () => {
    assert.strictEqual(core.add(2, 2), 4);
    assert.deepStrictEqual([core.add(1, 2)], [3]);
  });
  it("comes later", async () => {
    assert.ok((await core.add(1, 2)) === 3);
  });
  it("ends by a call", (t, done) => { assert.equal(core.add(1, 1), 2); done(); });
});
"""
RIGHT = "exports.add = (a, b) => a + b;\n"
WRONG = "exports.add = () => 5;\n"
FOR_TEXTS = "const only = (real) => (...given) => { if (typeof given[0] === 'string') real(...given); };\n"
ALL = ("strictEqual", "deepStrictEqual", "equal", "ok")
ASSERTS = "const assert = require('assert');\n" + "".join(f"assert.{name} = only(assert.{name});\n" for name in ALL)
DOUBTED = "Object.getOwnPropertyNames(globalThis).some((name) => /^troop/.test(name))"
HONEST = {
    "plain": RIGHT,
    "adds a method to arrays": "Array.prototype.total = function () { return this.reduce((a, b) => a + b); };\n"
    "exports.add = (...all) => all.total();\n",
    "a class": "class Sum { constructor(a, b) { this.it = a + b; } valueOf() { return this.it; } }\n"
    "exports.add = (a, b) => Number(new Sum(a, b));\n",
    "keeps state, hears of the end": "globalThis.kept = new Map();\nprocess.on('exit', () => kept.clear());\n" + RIGHT,
    "makes code": "exports.add = new Function('a', 'b', 'return a + b');\n",
}
HOSTILE = {
    "asserts of texts alone": WRONG + FOR_TEXTS + ASSERTS,
    "the language for numbers alone": "const { is } = Object;\n"
    "Object.is = (a, b) => typeof a === 'number' || is(a, b);\n"
    + WRONG
    + FOR_TEXTS
    + ASSERTS.replace("assert.strictEqual = only(assert.strictEqual);\n", ""),
    "fails where it is doubted": WRONG + FOR_TEXTS + ASSERTS + f"if ({DOUBTED}) throw new Error();\n",
    "ends where it is doubted": f"process.exit({DOUBTED} ? 1 : 0);\n",
    "reads the file": "const text = require('fs').readFileSync(process.argv[1], 'utf8');\n"
    "exports.add = (a, b) => Number(text.match(new RegExp(`add\\\\(${a}, ${b}\\\\)[^0-9]*(\\\\d)`))[1]);\n",
    "asks who called": "exports.add = function add(a, b) {\n"
    "  const found = String(add.caller).match(new RegExp(`add\\\\(${a}, ${b}\\\\)[^0-9]*(\\\\d)`));\n"
    "  return found ? Number(found[1]) : 5;\n};\n",
}


@pytest.mark.parametrize(
    ("core", "honest"),
    [*((core, True) for core in HONEST.values()), *((core, False) for core in HOSTILE.values())],
    ids=[*HONEST, *HOSTILE],
)
async def test_attack_25_a_suite_that_is_judged_by_something_else_is_no_vote(
    core: str, honest: bool, tmp_path: Path
) -> None:
    if shutil.which("node") is None:
        pytest.skip("no node")
    (tmp_path / "core.js").write_text("exports.add = () => 0;\n")
    scripts = {".test.js": ("sh", "-c", "cp {script} copy.test.js && node --test copy.test.js")}
    changes = (FileChange(path="core.js", text=core),)
    async with configured(tmp_path, scripts) as sandbox:
        found = await sandbox.run(
            SandboxJob(changes=changes, test=Test(path="it.test.js", text=SUITE), timeout=PATIENCE)
        )
    assert found.passed is honest, found


OF_NODE = """import { describe, it } from "node:test";
import assert from "node:assert";
import { add } from "./core.ts";

describe("sums", () => {
  it("is a sum", (t) => { assert.strictEqual(add(2, 2) as number, 4); });
  it("comes later", async (t) => { t.assert.strictEqual(add(1, 2), 3); });
});
"""
TYPED = "export const add = (a: number, b: number): number => {};\n"
CONTEXT = "import {{ getTestContext }} from 'node:test';\n" + TYPED.replace(
    "{}", "{{ getTestContext().{}(); return 5; }}"
)
IN_MODULES = {
    "right": (TYPED.replace("{}", "a + b"), True),
    "ends it": ("process.exit(0);\n" + TYPED.replace("{}", "5"), False),
    "makes tests a thing to do": (CONTEXT.format("todo"), False),
    "skips tests": (CONTEXT.format("skip"), False),
    "asserts nothing": (
        "import assert from 'node:assert';\nassert.strictEqual = () => {};\n" + TYPED.replace("{}", "a === 2 ? 5 : 3"),
        False,
    ),
    "registers an assertion": (  # an older Node gives it another object by an import
        "import { createRequire } from 'node:module';\nconst require = createRequire(import.meta.url);\n"
        "require('node:test').assert.register('strictEqual', () => {});\n" + TYPED.replace("{}", "a === 2 ? 4 : 5"),
        False,
    ),
}


def runs_types() -> bool:
    types = ["node", "-p", "process.features.typescript"]
    if shutil.which("node") is None:
        return False
    return subprocess.run(types, capture_output=True, text=True, check=False).stdout == "strip\n"


@pytest.mark.parametrize("name", IN_MODULES)
async def test_attack_25_a_suite_of_modules_with_types_is_judged_as_it_was(name: str, tmp_path: Path) -> None:
    if not runs_types():
        pytest.skip("no node that runs TypeScript")
    core, honest = IN_MODULES[name]
    (tmp_path / "core.ts").write_text(TYPED.replace("{}", "0"))
    scripts = {".test.ts": ("sh", "-c", "cp {script} copy.test.ts && node --test copy.test.ts")}
    changes = (FileChange(path="core.ts", text=core),)
    async with configured(tmp_path, scripts) as sandbox:
        found = await sandbox.run(
            SandboxJob(changes=changes, test=Test(path="it.test.ts", text=OF_NODE), timeout=PATIENCE)
        )
    assert found.passed is honest, found


IMPORTS = 'import { add } from "./core";\n\nit("sums", () => { expect(add(2, 2)).toBe(4); });\n'
JEST, MOCHA, VITEST = ("npx", "jest", "{script}"), ("npx", "mocha", "{script}"), ("npx", "vitest", "run", "{script}")


@pytest.mark.parametrize(
    ("path", "text", "command", "begins", "codes"),
    [
        ("a.test.js", SUITE, MOCHA, '"use strict";\n', [True]),
        ("a.test.js", SUITE, ("node", "--test", "{script}"), '"use strict";\n', [None, 0]),
        ("a.test.js", IMPORTS, JEST, 'jest.mock("troop-', [True]),
        (
            "a.test.js",
            "/** @jest-environment jsdom */\n" + IMPORTS,
            JEST,
            "/** @jest-environment jsdom */\njest.mock(",
            [True],
        ),
        ("a.test.ts", IMPORTS, JEST, '// @ts-nocheck\njest.mock("troop-', [True]),
        ("a.test.ts", IMPORTS, VITEST, '// @ts-nocheck\nimport "data:text/javascript,', [None, 0]),
        ("a.test.mjs", IMPORTS, MOCHA, 'import "data:text/javascript,', [True]),
        ("a.test.js", IMPORTS, ("npm", "test", "--", "{script}"), IMPORTS[:9], [None]),  # who knows how it is imported
        ("a.test.ts", OF_NODE, ("node", "--test", "{script}"), '// @ts-nocheck\nimport "data:text/', [None, 0]),
        ("a.test.js", SUITE.replace("it(", "it.skip(", 1), MOCHA, SUITE[:9], [None]),
    ],
)
def test_how_a_suite_begins_and_ends(
    path: str, text: str, command: tuple[str, ...], begins: str, codes: list[bool | int | None]
) -> None:
    job = SandboxJob(test=Test(path=path, text=text), changes=(FileChange(path="a", text=""),))
    found = doubted(job, {Path(path).suffix: command})
    assert [code if code in (None, 0) else True for _, code in found] == codes
    for again, code in found:
        assert again.test is not None
        assert again.test.text.startswith(begins)
        assert not code or f"leave(well ? {code} : 1)" in unquote(again.test.text)
