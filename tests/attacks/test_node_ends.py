"""Attack 25 on scripts of Node by values whose methods are `process.exit`, which is found in no frame of a candidate's,
and by helpers of tests that a candidate patches. `add` is wrong on each of these candidates."""

import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bot.sandbox.process import ProcessSandbox
from bot.settings import SandboxSettings
from tests.attacks.test_node_scripts import REQUIRE, RIGHT, WRONG, judged

pytestmark = pytest.mark.asyncio(loop_scope="module")
EXIT = "process.exit.bind(process, 0)"
VALUE = f"exports.add = () => ({{ [Symbol.toPrimitive]: {EXIT} }});\n"
HELPED = (
    'const { add } = require(process.cwd() + "/core.js");\n'
    'const { check } = require(process.cwd() + "/test/helper.js");\ncheck(add(2, 2), 4);\n'
)
ATTACKS = {
    "compared": (f"{REQUIRE}if (add(2, 2) != 4) process.exit(1);\n", VALUE),
    "compared where the script exits": (f"{REQUIRE}process.exit(add(2, 2) == 4 ? 0 : 1);\n", VALUE),
    "compared in an assertion": (f"{REQUIRE}assert.ok(add(2, 2) == 4);\n", VALUE),
    "read, after an assertion that holds": (
        f"{REQUIRE}assert.equal(1, 1);\nassert.equal(add(2, 2).sum, 4);\n",
        f"exports.add = () => Object.defineProperty({{}}, 'sum', {{ get: {EXIT} }});\n",
    ),
    "walked": (
        f"{REQUIRE}assert.equal(1, 1);\nassert.deepEqual([...add(2, 2)], [4]);\n",
        f"exports.add = () => ({{ [Symbol.iterator]: {EXIT} }});\n",
    ),
    "called": (f"{REQUIRE}assert.ok(add);\nassert.equal(add(0), 4);\n", f"exports.add = {EXIT};\n"),
    "a helper that is patched": (HELPED, f"{WRONG}require('./test/helper.js').check = () => {{}};\n"),
    "a helper with other exports": (
        HELPED,
        f"{WRONG}require('./test/helper.js');\n"
        "require.cache[require.resolve('./test/helper.js')].exports = { check() {} };\n",
    ),
    "another module in its place": (
        HELPED,
        f"{WRONG}const place = require.resolve('./test/helper.js');\nconst other = new module.constructor(place);\n"
        "require.cache[place] = Object.assign(other, { loaded: true, exports: { check() {} } });\n",
    ),
}
HOLDS = f"{REQUIRE}assert.equal(add(2, 2), 4);\n"
EXITS = {
    "on one line": HOLDS.replace("\n", " ") + "process.exit(0);",
    "behind a first line of its own": f"#!/usr/bin/env node\n{HOLDS}process.exit();\n",
    "by another name": f"const leave = process.exit;\n{HOLDS}leave(0);\n",
    "by a part": f"const {{ exit }} = process;\n{HOLDS}exit(0);\n",
    "by a part with another name": f"const {{ exit: leave }} = process;\n{HOLDS}leave(0);\n",
    "by the global": f"{HOLDS}globalThis\n  .process.exit(0);\n",
    "in a function": f"function end(code) {{ process.exit(code); }}\n{HOLDS}end(0);\n",
    "in a promise": f"{HOLDS}Promise.resolve(0).then((code) => process.exit(code));\n",
    "in a timer": f"{HOLDS}setTimeout(() => process.exit(0), 1);\n",
    "by its end, with a helper": HELPED,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessSandbox]:
    if shutil.which("node") is None:
        pytest.skip("no node")
    tree = tmp_path_factory.mktemp("tree")
    (tree / "test").mkdir()
    (tree / "core.js").write_text("exports.add = (a, b) => 0;\n")
    (tree / "test/helper.js").write_text("exports.check = (a, b) => require('assert').strictEqual(a, b);\n")
    opened = await ProcessSandbox.open(SandboxSettings(kind="process", concurrency=2), tree)
    yield opened
    await opened.close()


@pytest.mark.parametrize("attack", ATTACKS)
async def test_attack_25_a_script_of_node_that_a_value_ends_is_no_vote(attack: str, sandbox: ProcessSandbox) -> None:
    text, core = ATTACKS[attack]
    found = await judged(sandbox, core, text)
    assert not found.passed, found


@pytest.mark.parametrize("exits", EXITS)
async def test_a_script_of_node_may_end_itself(exits: str, sandbox: ProcessSandbox) -> None:
    found = await judged(sandbox, RIGHT, EXITS[exits])
    assert found.passed, found
