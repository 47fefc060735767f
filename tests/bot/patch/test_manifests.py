"""Attacks 32 and 33: what of a manifest steers tests, and what no test reads."""

import json

import pytest

from bot.patch.manifests import harmless
from bot.patch.protected_files import touched_judges, trusted
from bot.records import FileChange

PYPROJECT = """
[project]
name = "pkg"
version = "1.0"
dependencies = ["attrs"]

[tool.pytest.ini_options]
addopts = "-q"
"""
PACKAGE = {"name": "pkg", "version": "1.0.0", "scripts": {"test": "jest"}, "jest": {"verbose": True}}
CARGO = """
[package]
name = "pkg"
version = "0.1.0"

[dependencies]
serde = "1"
"""
SETUP = "[metadata]\nname = pkg\n[options]\ninstall_requires =\n    attrs\n[tool:pytest]\naddopts = -q\n"
GO = "module example.com/pkg\n\ngo 1.22\n\nrequire (\n\texample.com/a v1.0.0\n)\n"
MAKE = "# builds\ntest:\n\t./run\n"


def package(**changed: object) -> str:
    return json.dumps(PACKAGE | changed)


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("pyproject.toml", PYPROJECT, PYPROJECT.replace("1.0", "1.1")),
        ("pyproject.toml", PYPROJECT, PYPROJECT.replace('["attrs"]', '["attrs", "six"]')),
        (
            "a/pyproject.toml",
            PYPROJECT,
            PYPROJECT + '[tool.ruff]\nline-length = 100\n[dependency-groups]\ndev = ["x"]\n',
        ),
        ("package.json", package(), package(description="new", dependencies={"left-pad": "1"})),
        ("Cargo.toml", CARGO, CARGO + 'rand = "0.8"\n[dev-dependencies]\nproptest = "1"\n'),
        ("setup.cfg", SETUP, SETUP.replace("attrs", "attrs\n    six") + "[flake8]\nmax-line-length = 90\n"),
        ("tox.ini", "[tox]\n", "[tox]\n[flake8]\nignore = E1\n"),
        ("go.mod", GO, GO.replace("v1.0.0\n", "v1.1.0\n\texample.com/b v0.1.0 // indirect\n")),
        ("go.mod", GO, GO + "require example.com/c v1.2.3\n"),
        ("Makefile", MAKE, MAKE.replace("# builds", "# builds and tests")),
    ],
)
def test_what_no_test_reads_may_change(path: str, before: str, after: str) -> None:
    assert harmless(path, before, after)
    change = (FileChange(path=path, text=after),)
    assert touched_judges(change, path.__eq__, lambda _: before) == ""
    assert trusted(change, path.__eq__, lambda _: before) == change
    assert touched_judges(change, path.__eq__) == f"changes {path}"  # by its path alone


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("pyproject.toml", PYPROJECT, PYPROJECT.replace('"-q"', '"--collect-only"')),
        ("pyproject.toml", PYPROJECT, PYPROJECT + 'python_files = ["none"]\n'),
        ("pyproject.toml", PYPROJECT, PYPROJECT + "[tool.pytest]\nx = 1\n"),
        ("pyproject.toml", PYPROJECT, PYPROJECT + '[project.entry-points.pytest11]\nx = "evil"\n'),
        ("pyproject.toml", PYPROJECT, PYPROJECT + '[tool.coverage.run]\nplugins = ["evil"]\n'),
        ("pyproject.toml", PYPROJECT, PYPROJECT + '[build-system]\nbuild-backend = "evil"\n'),
        ("pyproject.toml", PYPROJECT, PYPROJECT.replace("[tool", "[tool.pytest]\n[[tool")),
        ("pyproject.toml", PYPROJECT, "not TOML ["),
        ("pyproject.toml", None, PYPROJECT),
        ("pyproject.toml", PYPROJECT, None),
        ("package.json", package(), package(scripts={"test": "true"})),
        ("package.json", package(), package(scripts={"test": "jest", "pretest": "rm -r tests"})),
        ("package.json", package(), package(jest={"testMatch": []})),
        ("package.json", package(), package(mocha={"require": "./evil"})),
        ("package.json", package(), package(type="module")),
        ("package.json", package(), package(imports={"#a": "./evil.js"})),
        ("package.json", package(), package()[:-1] + ', "version": "2", "version": "3"}'),
        ("package.json", package(), package()[:-1] + ', "scripts": {"test": "true"}, "scripts": {"test": "jest"}}'),
        ("package.json", package(), "[]"),
        ("Cargo.toml", CARGO, CARGO + "[lib]\ntest = false\n"),
        ("Cargo.toml", CARGO, CARGO.replace("[dep", "autotests = false\n[dep")),
        ("Cargo.toml", CARGO, CARGO + '[patch.crates-io]\nserde = { path = "evil" }\n'),
        ("setup.cfg", SETUP, SETUP.replace("-q", "--collect-only")),
        ("setup.cfg", SETUP, SETUP + "[options.entry_points]\npytest11 =\n    x = evil\n"),
        ("setup.cfg", SETUP, SETUP + "[aliases]\ntest = pytest --co\n"),
        ("setup.cfg", SETUP, SETUP + "[metadata]\nname = twice\n"),
        ("tox.ini", "[tox]\n", "[tox]\n[pytest]\naddopts = --co\n"),
        ("tox.ini", "[tox]\n", "[DEFAULT]\na = 1\n[tox]\n"),
        ("go.mod", GO, GO + "replace example.com/a => ./evil\n"),
        ("Makefile", MAKE, MAKE.replace("./run", "true")),
        ("Makefile", MAKE, MAKE + "SHELL = /bin/true\n"),
        ("Makefile", MAKE, "# builds \\\n# and\n" + MAKE),
        ("jest.config.js", "a", "a "),
        (".mocharc.json", "{}", "{} "),
        ("phpunit.xml", "<phpunit/>", "<phpunit />"),
        ("pytest.ini", "[pytest]\n", "[pytest]\n\n"),
        ("pom.xml", "<project/>", "<project />"),
    ],
)
def test_attack_33_what_steers_tests_loses_the_votes(path: str, before: str | None, after: str | None) -> None:
    assert not harmless(path, before, after)
    exists = (lambda _: before is not None) if before is not None else (lambda _: False)
    assert touched_judges((FileChange(path=path, text=after),), exists, lambda _: before).endswith(f" {path}")
