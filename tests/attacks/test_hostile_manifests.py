"""Manifests that take a parser for ever, or its stack: attack 28. A worker that parses for minutes loses its lease."""

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import bot
from bot import repo_config
from bot.patch.manifests import harmless
from bot.patch.syntax import syntax_error
from bot.patch.test_programs import programs
from bot.recipe import detect
from bot.recipe.declared import declared
from bot.recipe.dockerfile import read_dockerfile
from bot.recipe.import_roots import import_roots
from bot.repo_config import RepoConfig
from bot.retrieval.customs import abridged
from bot.retrieval.related_tests import related
from bot.solver import test_runners
from tests.growth import grows_evenly

FILES = ("a.py", "pkg/__init__.py", "tests/test_a.py")
NAMES = (
    *("pyproject.toml", "setup.cfg", "setup.py", "tox.ini", "requirements.txt", "Pipfile", "uv.lock", "Pipfile.lock"),
    *("package.json", "go.mod", "go.work", "Cargo.toml", "Gemfile", "pom.xml", "Makefile"),
    *(".devcontainer/devcontainer.json", ".github/workflows/ci.yml", ".troop.toml"),
)


def read_all(name: str) -> Callable[[str], object]:
    """What a run does with the manifest of that name before any test runs."""

    def reading(text: str) -> None:
        files = sorted({*FILES, name, *(("pyproject.toml",) if "lock" in name else ())})

        def read(path: str) -> str:
            return text if path == name else ""

        detect(files, read, RepoConfig())
        import_roots(files, read)
        declared(files, read)
        test_runners.detect(files, read)
        harmless(name, text, text + "\n")
        syntax_error(name, text)
        programs([("npm", "test"), ("make", "test")], read)

    return reading


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", ["\n", " ", "a.", '"a".', "[", "//\n"])
def test_attack_28_no_manifest_takes_long(name: str, part: str):
    reading = read_all(name)
    begins = {".toml": "[a]\n", ".cfg": "[a]\nb", ".ini": "[testenv]\ndeps = a"}.get(Path(name).suffix, "")
    assert grows_evenly(lambda text: reading(begins + text + ("1 = 1" if part.endswith(".") else "x")), part, 12_000)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", ["[", '{"a":', "{a=", "(", "- ", "a: {", "not ", "a.", "RUN ["])
def test_attack_28_no_manifest_is_nested_too_deeply(name: str, part: str):
    for count in (300, 20_000):
        read_all(name)(part * count)


@pytest.mark.parametrize(
    ("name", "begin", "part", "end"),
    [
        ("package.json", '{"dependencies": {"a": "1"}, "packageManager": "yarn@', "0", '!"}'),
        ("requirements.txt", "a", " ", "?"),
        ("Dockerfile", "FROM a\nENV a=b ", "a", "\n"),
    ],
)
def test_attack_28_no_part_of_a_manifest_takes_long(name: str, begin: str, part: str, end: str):
    def reading(text: str) -> None:
        read_all(name)(begin + text + end)
        read_dockerfile(begin + text + end, "")

    assert grows_evenly(reading, part, 12_000)


@pytest.mark.parametrize(
    "text", [f'{{"postCreateCommand": {"""{"a":""" * 400}"make"{"}" * 401}', '{"features": 5}', '{"features": "x"}']
)
def test_attack_28_no_devcontainer_of_another_shape_ends_a_run(text: str):
    read_all(".devcontainer/devcontainer.json")(text)


@pytest.mark.parametrize("part", ["\n", " ", "from ", "from pkg import\n", "import pkg."])
def test_attack_28_no_test_file_takes_long(part: str):
    paths = ("pkg/mod.py", "lib/index.js", "pkg/Mod.java")
    assert grows_evenly(
        lambda text: related(paths, {"tests/test_a.py": f"a{text}", "a.test.js": text}, ("a",)), part, 16_000
    )


@pytest.mark.parametrize(
    "part", ["# a\n```\n```\n", "```\n", "~~~\n```\n", "a\n===\n", "=", "# ", "`", "\n", "a\n~~~\n"]
)
def test_attack_28_no_custom_takes_long(part: str):
    assert grows_evenly(lambda text: abridged(f"{text}x", 2_500), part, 64_000)


def test_attack_28_no_pattern_skips_lines_at_the_beginning_of_each():
    """`^\\s*` begins at every line and goes on to the next that is not blank: the square of the number of blank lines,
    within one call that no other thread interrupts."""
    found = []
    for path in Path(bot.__file__).parent.rglob("*.py"):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            within = list(ast.walk(call))
            if any(isinstance(one, ast.Attribute) and one.attr == "MULTILINE" for one in within):
                texts = (one.value for one in within if isinstance(one, ast.Constant) and isinstance(one.value, str))
                found += [f"{path.name}: {text}" for text in texts if re.search(r"\^\\s[*+]", text)]
    assert found == []


@pytest.mark.parametrize("begin", ["", "{", "${", "a {", "["])
@pytest.mark.parametrize("part", [",", "a,", "{,", "[", "[a", "]"])
def test_attack_28_no_config_takes_long(begin: str, part: str):
    """A command with braces, and a line that is looked for to tell where the mistake is."""

    def read(text: str) -> None:
        repo_config.parse(f"[test]\ncommand = '{begin}{text}'\n")
        repo_config._line_of(f"{begin}{text}", ("sandbox", "image"))

    assert grows_evenly(read, part, 12_000)
