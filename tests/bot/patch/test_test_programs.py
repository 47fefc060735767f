"""Which files a test command runs."""

import pytest

from bot.patch.test_programs import programs

PACKAGE = """{"scripts": {
    "test": "npm run lint && node ./run-tests.js", "pretest": "node src/index.js", "lint": "npm test; eslint src"
}}"""
MAKEFILE = """\
PYTHON = python3
all: test
\tcc main.c

test unit: build test  # both
\t@$(PYTHON) tools/check_all.py
\t./prog < in

\t-python main.py
build:
\tsh ci/run.sh
"""
FILES = dict.fromkeys(
    ["scripts/test.sh", "t.py", "main.py", "main.c", "prog", "run-tests.js", "src/index.js", "tools/check_all.py"], ""
) | {"ci/run.sh": "", "tools/run.py": "", "package.json": PACKAGE, "Makefile": MAKEFILE}


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (("sh", "scripts/test.sh"), {"scripts/test.sh"}),
        (("./scripts/../scripts/test.sh", "t.py"), {"scripts/test.sh"}),
        (
            ("bash", "-lc", "cd x; A=1 timeout -k 5 60s ./scripts/test.sh -v && python3 -u t.py"),
            {"scripts/test.sh", "t.py"},
        ),
        (("python3", "-W", "error", "t.py", "main.py"), {"t.py"}),
        (("python3.12", "-m", "tools.run", "t.py"), {"tools/run.py"}),
        (("python3", "-m", "pytest", "t.py"), set()),
        (("python3", "-c", "pass", "t.py"), set()),
        (("uv", "run", "--", "python", "t.py"), {"t.py"}),
        (("coverage", "run", "t.py"), {"t.py"}),
        (("npm", "test", "--silent"), {"run-tests.js"}),
        (("yarn", "run", "test"), {"run-tests.js"}),
        (("npm", "exec", "--silent", "-c", "node run-tests.js && node main.js"), {"run-tests.js"}),
        (("make", "-s", "unit", "V=1"), {"tools/check_all.py", "ci/run.sh"}),
        (("make", "all"), {"tools/check_all.py", "ci/run.sh"}),
        (("sh", "-c", "unclosed '"), set()),
        (("/bin/sh", "/etc/passwd"), set()),
        (("sh", "../outside.sh"), set()),
        ((), set()),
    ],
)
def test_files_that_a_test_command_runs(command: tuple[str, ...], found: set[str]) -> None:
    assert programs([command], FILES.get) == found


@pytest.mark.parametrize("package", ["", "[]", '{"scripts": []}', '{"scripts": {"test": 1}}', "[" * 100_000])
def test_a_package_that_says_nothing_names_nothing(package: str) -> None:
    assert programs([("npm", "test")], {"package.json": package}.get) == set()


def test_what_calls_itself_many_times_is_followed_once() -> None:
    makefile = "\n".join(f"a{n}: {' '.join(f'a{m}' for m in range(400))}\n\tmake a{n}" for n in range(400))
    assert programs([("make", "a0")], {"Makefile": makefile}.get) == set()


LOADED = {
    "package.json": """{"main": "index.js", "exports": {"require": "./index.js", "import": "./src/main.js"}, "jest": {
        "setupFiles": ["<rootDir>/tools/before.js"], "moduleNameMapper": {"^a$": "<rootDir>/src/main.js"},
        "globalSetup": "./tools/global"}, "scripts": {"test": "mocha -r ./tools/hooks lib", "clean": "rm -r index"}}""",
    "vitest.config.ts": "export default { test: { setupFiles: './tools/vitest.ts', include: ['src/main.js'] } }",
    ".mocharc.yml": "require:\n  - ./tools/chai\n  - ts-node/register\nspec: index.js\n",
    ".rspec": "--require tools/rspec\n--color\n",
    "phpunit.xml": '<phpunit bootstrap="tools/boot.php" colors="true"><file>index.js</file></phpunit>',
}
BEFORE = ("before.js", "global.ts", "hooks.js", "vitest.ts", "chai.js", "rspec.rb", "boot.php")


def test_what_runners_load_before_tests_is_found() -> None:
    paths = [*(f"tools/{name}" for name in BEFORE), "index.js", "src/main.js", "tools/other.js"]
    files = LOADED | dict.fromkeys(paths, "")
    assert programs([("npm", "test")], files.get) == {f"tools/{name}" for name in BEFORE}
