"""Versions of toolchains that files ask for, and what a sandbox is too old for."""

import subprocess
from collections.abc import Mapping

import pytest

from bot.recipe.asked import TOOLS, asked, image_of, telling, told, too_old, without, words_of
from bot.recipe.recipe import Asked

CARGO = '[package]\nrust-version = "1.74"\n'


def of(files: Mapping[str, str]) -> dict[str, tuple[str, str, tuple[int, ...]]]:
    return {one.tool: (one.wanted, one.source, one.least) for one in asked(tuple(sorted(files)), files.get)}


@pytest.mark.parametrize(
    ("path", "text", "tool", "wanted", "least"),
    [
        ("package.json", '{"name": "a", "engines": {"npm": ">=9", "node": ">=20.1"}}', "node", ">=20.1", (20, 1)),
        ("package.json", '{"engines": {"node": "^20.0.0 || >=22"}}', "node", "^20.0.0 || >=22", (20, 0, 0)),
        ("package.json", '{"engines": {"node": "18 - 22"}}', "node", "18 - 22", (18,)),
        ("package.json", '{"engines": {"node": ">= 16.14 <23"}}', "node", ">= 16.14 <23", (16, 14)),
        (
            "package.json",
            '{"engines": {"node": ">=18"}, "devEngines": {"packageManager": {"name": "pnpm", "version": "10"}, '
            '"runtime": {"name": "node", "version": ">=24", "onFail": "error"}}}',
            "node",
            ">=24",
            (24,),
        ),
        ("mise.toml", '[tools]\nnode = "26"\npython = ["3.14", "3.13"]\n', "node", "26", (26,)),
        ("mise.toml", '[tools]\npython = ["3.14", "3.13"]\n', "python3", "3.14", (3, 14)),
        (".mise.toml", '[tools]\nrust = { version = "1.97.0", profile = "minimal" }\n', "cargo", "1.97.0", (1, 97)),
        (".tool-versions", "go 1.27.1\nnode 24.4.0\n", "go", "1.27.1", (1, 27)),
        (".nvmrc", "v20.11.1\n", "node", "20.11.1", (20,)),
        (".node-version", "22\n", "node", "22", (22,)),
        (".tool-versions", "nodejs 22.1.0\nelixir 1.15.7-otp-26\n", "node", "22.1.0", (22,)),
        (".tool-versions", "java temurin-21.0.2+13\n", "java", "21.0.2", (21,)),
        ("pyproject.toml", '[project]\nrequires-python = ">=3.12,<4"\n', "python3", ">=3.12,<4", (3, 12)),
        ("pyproject.toml", '[tool.poetry.dependencies]\npython = "^3.12"\n', "python3", "^3.12", (3, 12)),
        ("setup.py", 'setup(\n    python_requires=">=3.9, !=3.10.*",\n)\n', "python3", ">=3.9, !=3.10.*", (3, 9)),
        ("setup.cfg", "[options]\npython_requires = >=3.9\n", "python3", ">=3.9", (3, 9)),
        (".python-version", "3.13.1\n3.12.8\n", "python3", "3.13.1 || 3.12.8", (3, 12)),
        ("go.mod", "module a\n\ngo 1.21.3\n\ntoolchain go1.22.0\n", "go", "1.21.3", (1, 21, 3)),
        ("Cargo.toml", CARGO, "cargo", "1.74", (1, 74)),
        ("rust-toolchain", "1.75.0\n", "cargo", "1.75.0", (1, 75)),
        ("rust-toolchain.toml", '[toolchain]\nchannel = "1.75"\n', "cargo", "1.75", (1, 75)),
        ("a.gemspec", "  s.required_ruby_version = ['>= 3.2', '< 4']\n", "ruby", "['>= 3.2', '< 4']", (3, 2)),
        ("Gemfile", "source 'x'\nruby '~> 3.3.0'\n", "ruby", "'~> 3.3.0'", (3, 3, 0)),
        (".ruby-version", "ruby-3.3.1\n", "ruby", "3.3.1", (3, 3)),
        ("composer.json", '{"require": {"ext-json": "*", "php": "^7.4|^8.0"}}', "php", "^7.4|^8.0", (7, 4)),
        ("pom.xml", "<maven.compiler.source>1.8</maven.compiler.source>", "java", "1.8", (8,)),
        ("pom.xml", "<configuration><release>21</release></configuration>", "java", "21", (21,)),
        ("build.gradle", "languageVersion = JavaLanguageVersion.of(21)", "java", "21", (21,)),
        ("build.gradle", "sourceCompatibility = JavaVersion.VERSION_1_8\n", "java", "1_8", (8,)),
        ("build.gradle.kts", 'sourceCompatibility = "17"\n', "java", "17", (17,)),
        ("mix.exs", 'elixir: "~> 1.14 or ~> 1.16",', "elixir", "~> 1.14 or ~> 1.16", (1, 14)),
        ("CMakeLists.txt", "cmake_minimum_required(VERSION 3.28...3.30)", "cmake", "3.28", (3, 28)),
    ],
)
def test_every_kind_of_file(path: str, text: str, tool: str, wanted: str, least: tuple[int, ...]) -> None:
    assert of({path: text})[tool] == (wanted, path, least)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("package.json", '{"engines": {"node": "*"}}'),
        ("package.json", '{"dependencies": {"node": "20"}}'),
        (".nvmrc", "lts/iron\n"),
        ("rust-toolchain", "nightly-2024-05-01\n"),
        ("rust-toolchain.toml", '[toolchain]\nchannel = "stable"\n'),
        ("pyproject.toml", '[project]\nrequires-python = "<4"\n[tool.hatch.envs.x]\npython = "3.13"\n'),
        (".python-version", "pypy3.10\n"),
        ("docs/package.json", '{"engines": {"node": ">=20"}}'),
        ("Gemfile", "ruby file: '.ruby-version'\n"),
    ],
)
def test_what_asks_for_no_version(path: str, text: str) -> None:
    assert of({path: text}) == {}


def test_what_a_project_works_with_counts_before_what_its_authors_use() -> None:
    files = {"package.json": '{"engines": {"node": ">=18"}}', ".nvmrc": "24", "a/package.json": '{"engines": {}}'}
    assert of(files)["node"] == (">=18", "package.json", (18,))
    assert of({"a/Cargo.toml": CARGO, "b/Cargo.toml": CARGO.replace("74", "80")})["cargo"][1:] == (
        "b/Cargo.toml",
        (1, 80),
    )


@pytest.mark.parametrize(
    ("tool", "least", "printed", "has"),
    [
        ("node", (20,), "v18.19.0", "18.19.0"),
        ("node", (18, 20), "v18.19.0", "18.19.0"),
        ("node", (18, 19, 0), "v18.19.0", ""),
        ("go", (1, 21), "go version go1.19.8 linux/amd64", "1.19.8"),
        ("go", (1, 21, 0), "go version go1.21 linux/amd64", ""),
        ("java", (8,), 'openjdk version "1.8.0_392"', ""),
        ("java", (21,), "openjdk 17.0.9 2023-10-17", "17.0.9"),
        ("php", (8, 3), "PHP 8.2.7 (cli) (built: Jun  9 2023)", "8.2.7"),
        ("ruby", (3, 2), "ruby 3.1.2p20 (2022-04-12 revision 4491bb740a) [x86_64-linux-gnu]", "3.1.2"),
        ("python3", (3, 9), "Python 3.11.2", ""),
        ("cargo", (99,), "", ""),
    ],
)
def test_what_is_too_old(tool: str, least: tuple[int, ...], printed: str, has: str) -> None:
    wanted = Asked(tool=tool, wanted="x", source="f", least=least)
    assert too_old([wanted], {tool: printed}) == (((wanted, has),) if has else ())


def test_programs_tell_their_versions_at_the_end_of_a_log() -> None:
    script = "echo before\n" + telling([TOOLS["python3"].says, "troop-has-no-such --version"])
    printed = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    versions = told(printed)
    assert versions["python3"].startswith("Python 3.")
    assert versions["troop-has-no-such"] == ""
    assert without(printed) == "before"


def test_the_words_and_an_image() -> None:
    node = Asked(tool="node", wanted=">=20.1", source="package.json", least=(20, 1))
    assert words_of(node, "18.19.0") == "package.json asks for Node >=20.1, and 18.19.0 is there"
    assert image_of(node) == "node:20"
    assert image_of(Asked(tool="go", wanted="1.21.3", source="go.mod", least=(1, 21, 3))) == "golang:1.21"
    assert image_of(Asked(tool="cmake", wanted="4", source="CMakeLists.txt", least=(4,))) == ""


def test_little_is_told_of_what_is_asked_for_in_many_words() -> None:
    (one,) = asked(
        ["package.json"], {"package.json": '{"engines": {"node": ">=22 ' + "and so on " * 10_000 + '"}}'}.get
    )
    assert one.least == (22,)
    assert len(words_of(one, "18")) < 200
