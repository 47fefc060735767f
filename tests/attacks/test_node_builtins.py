"""Attacks 25 and 31 on test scripts in JavaScript, by what the language and Node itself offer: functions that are
replaced, for a moment or for good, and ways to read the script. And right candidates that do what looks alike."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bot.records import FileChange, SandboxJob, Test
from bot.sandbox.process import ProcessSandbox
from bot.settings import SandboxSettings
from tests.attacks.test_node_scripts import REQUIRE, RIGHT, WRONG, judged, sandbox
from tests.patience import PATIENCE

__all__ = ["sandbox"]
pytestmark = pytest.mark.asyncio(loop_scope="module")
FS = 'const fs = require("fs");\n'
CHILD = """const child_process = require("child_process");
const code = "console.log(require(process.cwd() + '/core.js').add(2, 2))";
if (child_process.execFileSync(process.execPath, ["-e", code]).toString().trim() !== "4") process.exit(1);
"""
FORMS = {
    "assert": f"{REQUIRE}assert.strictEqual(add(2, 2), 4);\n",
    "promise": f"{REQUIRE}(async () => {{ assert.equal(await add(2, 2), 4); }})();\n",
    "caught": f"{REQUIRE}(async () => {{ assert.equal(await add(2, 2), 4); }})().catch(() => process.exit(1));\n",
    "if": f"{REQUIRE}if (add(2, 2) !== 4) process.exit(1);\n",
    "every": f"{REQUIRE}const found = [add(2, 2)];\nassert.ok(found.every((one) => one === 4));\n",
    "push": f"{REQUIRE}const failed = [];\nif (add(2, 2) !== 4) failed.push(1);\nif (failed.length) throw 1;\n",
    "parsed": f"{REQUIRE}assert.strictEqual(parseInt(add(2, 2)), 4);\n",
    "stringify": f"{REQUIRE}assert.strictEqual(JSON.stringify(add(2, 2)), '4');\n",
    "instanceof": f"{REQUIRE}assert.ok(add(2, 2) === 4 || add(2, 2) instanceof Number);\n",
    "throws": f"{REQUIRE}assert.throws(() => {{ throw add(2, 2) === 4 ? new TypeError() : 1; }}, TypeError);\n",
    "match": f"{REQUIRE}assert.match(String(add(2, 2)), /^4$/);\n",
    "written": f"{FS}{REQUIRE}fs.writeFileSync('o', String(add(2, 2)));\n"
    "assert.equal(fs.readFileSync('o', 'utf8'), '4');\n",
    "child": f"require(process.cwd() + '/core.js');\n{CHILD}",
    "late": 'const { add } = require(process.cwd() + "/core.js");\nconst assert = require("assert");\n'
    "assert(add(2, 2) === 4);\n",
    "later": 'const { add } = require(process.cwd() + "/core.js");\n'
    '(async () => { const assert = (await import("node:assert")).default; assert(add(2, 2) === 4); })();\n',
    "tests": f'const {{ test }} = require("node:test");\n{REQUIRE}'
    "test('sums', () => { assert.strictEqual(add(2, 2), 4); });\n",
    "golden": f"{FS}{REQUIRE}assert.equal(String(add(2, 2)), fs.readFileSync('tests/golden.txt', 'utf8'));\n",
    "timer": f"{REQUIRE}assert.ok(add);\nsetTimeout(() => assert.strictEqual(add(2, 2), 4), 5);\n",
    "immediate": f"{REQUIRE}assert.ok(add);\nsetImmediate(() => assert.strictEqual(add(2, 2), 4));\n",
    "cases": f"{REQUIRE}assert.ok(add);\n"
    "for (const one of [{ a: 2, sum: 4 }]) if (!one.skip) assert.strictEqual(add(one.a, one.a), one.sum);\n",
    "callback": f"{REQUIRE}assert.ok(add);\n[2].forEach((a) => add(a, 2, (found) => assert.strictEqual(found, 4)));\n"
    "assert.strictEqual(add(2, 2), 4);\n",
    "data": f"{REQUIRE}const want = require(process.cwd() + '/tests/want.json');\n"
    "assert.deepStrictEqual({ sum: add(2, 2) }, want);\n",
    # Words that are names of what the runner itself watches.
    "names": f"{REQUIRE}const register = new AbortController();\nregister.abort();\n"
    "assert.ok(register.signal.aborted, 'binding open dlopen reallyExit registerHooks');\n"
    "assert.strictEqual(add(2, 2), 4);\n",
    "module": 'import assert from "node:assert";\nimport { createRequire } from "node:module";\n'
    'const { add } = createRequire(import.meta.url)(process.cwd() + "/core.js");\nassert.equal(add(2, 2), 4);\n',
}
READ = "/add\\(2, 2\\), (\\d+)/.exec(TEXT)[1]"
SCRIPT = 'require("fs").readFileSync(process.argv[1], "utf8")'


def reads(text: str, head: str = "") -> str:
    return f"{head}exports.add = function () {{ return Number({READ.replace('TEXT', text)}); }};\n"


def undoing(owner: str, name: str, instead: str) -> str:
    return (
        f"const real = {owner}.{name};\n{owner}.{name} = () => {{ {owner}.{name} = real; return {instead}; }};\n{WRONG}"
    )


def calls_nothing(timer: str, name: str) -> str:
    instead = "{ set() {}, get() { return () => {}; } }"
    return f"{WRONG}Object.defineProperty(Object.getPrototypeOf({timer}), '{name}', {instead});"


LOADER = f"{WRONG}const M = require('module');\nconst real = M.NAME;\nM.NAME = FUNCTION;\n"
OTHER = "name === 'assert' ? () => {} : "
HOOKS = (
    'export const resolve = (s, c, n) => (s === "node:assert" ? { url: "data:text/javascript,export default () => {}", '
    "shortCircuit: true } : n(s, c));"
)
ATTACKS = {
    "loads another assert": (
        "late",
        LOADER.replace("NAME", "_load").replace("FUNCTION", f"(name, ...more) => {OTHER}real(name, ...more)"),
    ),
    "requires another assert": (
        "late",
        LOADER.replace("NAME", "prototype.require").replace(
            "FUNCTION", f"function (name) {{ return {OTHER}real.call(this, name); }}"
        ),
    ),
    "finds another assert": (
        "late",
        "require('fs').writeFileSync('a.js', 'module.exports = () => {};');\n"
        + LOADER.replace("NAME", "_resolveFilename").replace(
            "FUNCTION",
            "(name, ...more) => (name === 'assert' ? process.cwd() + '/a.js' : real(name, ...more))",
        ),
    ),
    "registers a loader": (
        "later",
        f"{WRONG}require('module').register('data:text/javascript,' + encodeURIComponent(`{HOOKS}`));\n",
    ),
    "makes tests a thing to do": ("tests", f"{WRONG}require('node:test').beforeEach((test) => test.todo());\n"),
    "skips tests": ("tests", f"{WRONG}require('node:test').beforeEach((test) => test.skip());\n"),
    "writes what is expected": (
        "golden",
        "exports.add = () => { require('fs').writeFileSync('tests/golden.txt', '5'); return 5; };\n",
    ),
    "leads to another folder": (
        "golden",
        "const fs = require('fs');\nexports.add = () => {\n  fs.mkdirSync('o/tests', { recursive: true });\n"
        "  fs.writeFileSync('o/tests/golden.txt', '5');\n  process.chdir('o');\n  return 5;\n};\n",
    ),
    "reads the script": ("assert", reads(SCRIPT)),
    "reads the script of modules": ("module", reads(SCRIPT)),
    "reads it later": (
        "promise",
        "exports.add = async () => Number(/add\\(2, 2\\), (\\d+)/.exec("
        "await require('fs').promises.readFile(require.main.filename, 'utf8'))[1]);",
    ),
    "has it read": ("assert", reads("require('child_process').execFileSync('cat', [process.argv[1]]).toString()")),
    "reads its caller": ("assert", reads("exports.add.caller.toString()")),
    "reads its caller as a text": ("assert", reads("String(arguments.callee.caller)")),
    "reads a frame's function": (
        "assert",
        reads(
            "stack().map((site) => String(site.getFunction())).join()",
            "const stack = () => { const before = "
            "Error.prepareStackTrace; Error.prepareStackTrace = (_, sites) => sites; const found = new Error().stack; "
            "Error.prepareStackTrace = before; return found; };\n",
        ),
    ),
    "reads its own memory": ("assert", "require('fs').openSync('/proc/self/mem', 'r'); exports.add = () => 4;"),
    "exit does nothing": ("if", f"{WRONG}process.exit = () => {{}};"),
    "exit is another, by a definition": ("if", f"{WRONG}Object.defineProperty(process, 'exit', {{ value() {{}} }});"),
    "another process": ("if", f"{WRONG}globalThis.process = Object.create(process, {{ exit: {{ value() {{}} }} }});"),
    "exits in the script's name": (
        "if",
        "require('vm').runInThisContext('(p) => p.exit(0)', { filename: process.argv[1] })(process);",
    ),
    "exits in an unchanged file's name": (
        "if",
        "require('vm').runInThisContext('(p) => p.exit(0)', { filename: __dirname + '/other.js' })(process);",
    ),
    "swallows by a domain": ("push", f"{WRONG}require('domain').create().on('error', () => {{}}).enter();"),
    "swallows by promises": (
        "caught",
        f"{WRONG}Promise.prototype.catch = function () {{ return this.then(null, () => 1); }};",
    ),
    "an `every` that undoes itself": ("every", undoing("Array.prototype", "every", "true")),
    "a `push` that undoes itself": ("push", undoing("Array.prototype", "push", "0")),
    "an `every` that a timer sets": (
        "every",
        f"{WRONG}[1].forEach(Reflect.set.bind(null, Array.prototype, 'every', () => true));",
    ),
    "another global": ("parsed", f"{WRONG}globalThis.parseInt = () => 4;"),
    "another JSON of numbers": ("stringify", f"{WRONG}Number.prototype.toJSON = () => 4;"),
    "instances of everything": (
        "instanceof",
        f"{WRONG}Object.defineProperty(Number, Symbol.hasInstance, {{ value: () => true }});",
    ),
    "says that all errors are of a kind": (
        "throws",
        f"{WRONG}Object.defineProperty(TypeError, Symbol.hasInstance, {{ value: () => true }});",
    ),
    "what matches nothing": ("match", WRONG),
    "files that say 4": ("written", f"{WRONG}require('fs').readFileSync = () => '4';"),
    "timers that call nothing": ("timer", calls_nothing("setTimeout(() => {}, 0)", "_onTimeout")),
    "timers that call nothing at once": ("immediate", calls_nothing("setImmediate(() => {})", "_onImmediate")),
    "a part of all objects": ("cases", f"{WRONG}Object.prototype.skip = true;"),
    "a loader of data": (
        "data",
        f"{WRONG}require('module')._extensions['.json'] = (m) => {{ m.exports = {{ sum: 5 }}; }};",
    ),
    "words of the engine": (
        "callback",
        "exports.add = (a, b, f) => { if (!f) return 4; require('v8').setFlagsFromString('--allow-natives-syntax'); "
        "f(Number(/found, (\\d)/.exec(new Function('f', 'return %FunctionGetScriptSource(f)')(f))[1])); };",
    ),
    "children that say 4": ("child", f"{WRONG}require('child_process').execFileSync = () => '4';"),
    "children with options": (
        "child",
        f"{WRONG}require('fs').writeFileSync('x.js', 'console.log(4)');\n"
        "process.env.NODE_OPTIONS = `--require ${process.cwd()}/x.js`;",
    ),
    "children of another program": (
        "child",
        f"{WRONG}require('fs').writeFileSync('n', '#!/bin/sh\\necho 4\\n', "
        "{ mode: 0o755 });\nprocess.execPath = process.cwd() + '/n';",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_attack_25_what_node_offers_forges_nothing(attack: str, sandbox: ProcessSandbox) -> None:
    form, core = ATTACKS[attack]
    found = await judged(sandbox, core, FORMS[form], "test_it.mjs" if form == "module" else "test_it.js")
    assert not found.passed, found


@pytest.mark.parametrize("form", FORMS)
async def test_a_right_candidate_passes_in_each_form(form: str, sandbox: ProcessSandbox) -> None:
    found = await judged(sandbox, RIGHT, FORMS[form], "test_it.mjs" if form == "module" else "test_it.js")
    assert found.passed, found


PACKAGE = """"use strict";
const fs = require("fs");
const { cwd, emit, reallyExit } = process;
const close = fs.closeSync;
fs.closeSync = function () { return close.apply(fs, arguments); };
process.cwd = () => cwd.call(process);
process.emit = function (...given) { return emit.apply(this, given); };
process.reallyExit = (code) => reallyExit.call(process, code);
"""
HONEST = {
    "what loads more": (
        "assert.ok(require('fs').readFileSync('core.js', 'utf8').includes('add'));\nassert.equal(add(2, 2), 4);",
        "const { createRequire, builtinModules } = require('module');\n"
        "createRequire(process.cwd() + '/')('./core.js');\n"
        "require.resolve('fs') && builtinModules.includes('fs');\nrequire('fs').mkdirSync('o', { recursive: true });\n"
        "process.chdir('o');\nprocess.chdir('..');\nimport('os');\n",
    ),
    "a package that patches Node": (
        "fs.closeSync(fs.openSync('core.js'));\nassert.ok(process.cwd());",
        "require('patches');",
    ),
    "a package that asks for a part of Node": ("assert.equal(add(2, 2), 4);", "require('parts');"),
    "a copy of what a property is like": (
        "assert.equal(typeof require(process.cwd() + '/core.js').mixed.then, 'function');",
        "const like = Reflect.getOwnPropertyDescriptor(Promise.prototype, 'then');\n"
        "const all = Object.getOwnPropertyDescriptors(Promise.prototype);\n"
        "const value = like.value.bind(Promise.resolve());\n"
        "exports.mixed = Object.defineProperty({}, 'then', { ...all.then, ...like, value });",
    ),
    "values with texts of their own": (
        "const { P } = require(process.cwd() + '/core.js');\n"
        "assert.equal(`${new P()} ${String({ toString: () => 1 })}`, 'p 1');",
        "function P() {}\nP.prototype.toString = () => 'p';\nexports.P = P;",
    ),
    "names of arguments": (
        "const { names } = require(process.cwd() + '/core.js');\n"
        "assert.equal(names(function (one, two) { assert.ok(one); }), 'one, two');",
        "exports.names = (f) => /\\((.*?)\\)/.exec(f.toString())[1];",
    ),
    "functions as texts": (
        "const { text } = require(process.cwd() + '/core.js');\nassert.equal(text((a) => a + 1), '(a) => a + 1');",
        "exports.text = String;",
    ),
    "methods that are missing": (
        "assert.equal([1].at(0), 1);",
        "if (!Array.prototype.at) Array.prototype.at = () => 2;\nObject.prototype.at = () => 2;",
    ),
    "an assertion of the script's own": (
        "assert.near = (a, b) => assert.ok(a - b < 1);\nassert.near(add(1, 1), 2);",
        "",
    ),
    "mocks of the script": (
        "const real = Date.now; Date.now = () => 5; assert.equal(Date.now(), 5); Date.now = real;\n"
        "process.stdout.write = () => true; process.argv = []; assert.equal(process.argv.length, 0);",
        "",
    ),
    "mocks of node:test": (
        "const { mock } = require('node:test');\nmock.method(process, 'cwd', () => '/x');\n"
        "assert.equal(process.cwd(), '/x');\n"
        "mock.restoreAll();",
        "",
    ),
    "a script that starts itself": (
        "if (process.argv[2]) process.exit(0);\n"
        "require('child_process').execFileSync(process.execPath, [__filename, 'child']);",
        "",
    ),
    "code that it compiles": (
        "const { run } = require(process.cwd() + '/core.js');\nassert.equal(run('1 + 1'), 2);",
        "exports.run = (text) => require('vm').runInNewContext(text, {}, 'user.js');",
    ),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def packaged(sandbox: ProcessSandbox, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessSandbox]:
    tree = tmp_path_factory.mktemp("packaged")
    files = {
        "core.js": "exports.add = () => 0;\n",
        "node_modules/patches/index.js": PACKAGE,
        "node_modules/parts/index.js": "try { process.binding('util'); } catch (_) { /* a newer Node */ }\n",
    }
    for path, text in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    opened = await ProcessSandbox.open(SandboxSettings(kind="process", concurrency=2), tree)
    yield opened
    await opened.close()


@pytest.mark.parametrize("kind", HONEST)
async def test_a_right_candidate_keeps_its_proof(kind: str, packaged: ProcessSandbox) -> None:
    checks, core = HONEST[kind]
    changes = (FileChange(path="core.js", text=f"{core}\n{RIGHT}"),)
    test = Test(path="test_it.js", text=f"{FS}{FORMS['assert']}{checks}\n")
    found = await packaged.run(SandboxJob(changes=changes, test=test, timeout=PATIENCE))
    assert found.passed, found
