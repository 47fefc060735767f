from pathlib import Path

import pytest

from bot.capuchin.exercises import corpus
from bot.capuchin.exercises.corpus import EXCLUDED, Function, pins, refuse_excluded


def test_functions_are_found_with_their_docstrings_lines(functions: list[Function]) -> None:
    assert [f.name for f in functions] == ["between", "windows", "initials", "spread", "total"]
    assert functions[0].doc == (1, 6)
    assert functions[0].bare.split("\n")[1] == "    if number < low:"
    assert [f.method for f in functions] == [False] * 4 + [True]


def test_what_does_not_parse_gives_nothing() -> None:
    assert list(corpus.functions_of("x.py", "def broken(:\n")) == []


def test_no_package_that_capuchin_is_judged_on_is_learned_from() -> None:
    names = {pin.split("==")[0].lower().replace("_", "-") for pin in pins()}
    assert not names & EXCLUDED
    assert {
        "toolz",
        "more-itertools",
        "boltons",
        "humanize",
        "inflection",
        "python-slugify",
        "sortedcontainers",
    } <= EXCLUDED


def test_every_package_is_pinned() -> None:
    assert all(pin.count("==") == 1 for pin in pins())


@pytest.mark.parametrize("name", ["toolz", "more_itertools", "Boltons", "python-slugify"])
def test_an_excluded_package_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="kept for judging"):
        refuse_excluded(["sympy", name])


@pytest.mark.parametrize("folder", ["more_itertools", "toolz", "_vendor", "tests"])
def test_copies_of_excluded_packages_and_tests_are_skipped(folder: str) -> None:
    assert corpus._skipped(("setuptools", folder, "recipes.py"))


def test_excluded_modules_are_skipped_by_their_own_name() -> None:
    assert corpus._skipped(("vendored", "x", "inflection.py"))
    assert not corpus._skipped(("json", "decoder.py"))


def test_a_corpus_comes_back_from_its_file(functions: list[Function], tmp_path: Path) -> None:
    corpus.save(functions, tmp_path / "corpus.jsonl")
    assert corpus.load(tmp_path / "corpus.jsonl") == functions


def test_about_a_twentieth_of_the_files_is_held_out() -> None:
    kept = sum(Function("f", "", (0, 0), f"package/file{i}.py").held_out for i in range(2000))
    assert 50 < kept < 150
