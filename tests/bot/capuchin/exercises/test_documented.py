import doctest
import random

import pytest

from bot.capuchin.exercises.documented import quoted, with_example
from bot.capuchin.exercises.issues import Example, Outcome
from bot.capuchin.exercises.scenes import EXCERPT, Scenes
from bot.capuchin.exercises.turns import script

TOLD = '''def double(items):
    """Twice each.

    >>> double([])
    []
    >>> some = [1, 2]
    >>> double(some)
    [2, 4]
    >>> double(None)
    Traceback (most recent call last):
    TypeError: no
    """
    return [item * 2 for item in items]
'''


@pytest.mark.parametrize("seed", range(6))
def test_an_example_is_read_out_of_the_docstring(seed: int) -> None:
    example = quoted(TOLD, "double", random.Random(seed))
    assert example is not None
    assert (example.call, example.expected.text, example.setup) in {
        ("double([])", "[]", ()),
        ("double(some)", "[2, 4]", ("some = [1, 2]",)),
    }
    assert example.actual.words != example.expected.text


def test_what_has_no_example_gives_none() -> None:
    assert quoted("def f():\n    return 1", "f", random.Random(1)) is None
    assert quoted(TOLD, "triple", random.Random(1)) is None
    assert quoted("def f(:", "f", random.Random(1)) is None


@pytest.mark.parametrize("doc", ['"""Add."""', '"""\n    Add.\n    """', '"""Add.\n\n    More of it.\n    """'])
def test_an_example_is_written_into_a_docstring(doc: str) -> None:
    source = f"def add(a, b):\n    {doc}\n    return a + b"
    changed = with_example(source, Example("add(1, 2)", Outcome("4"), Outcome("3")))
    assert changed.endswith("\n    return a + b")
    scope: dict[str, object] = {}
    exec(changed, scope)
    found = doctest.DocTestFinder().find(scope["add"], "add", globs=scope)
    assert doctest.DocTestRunner().run(found[0]) == doctest.TestResults(0, 1)


def test_a_function_without_a_docstring_is_left_alone() -> None:
    source = "def add(a, b):\n    return a + b"
    assert with_example(source, Example("add(1, 2)", Outcome("4"), Outcome("3"))) == source


def test_excerpts_show_one_documented_function_and_its_example(scenes: Scenes) -> None:
    before, scenes.size = scenes.size, EXCERPT
    try:
        drawn = [scenes.draw(random.Random(seed)) for seed in range(30)]
    finally:
        scenes.size = before
    assert all(len(scene.files) == 1 and len(scene.examples) == 1 for scene in drawn)
    assert all(scene.planted in scene.text for scene in drawn)
    assert sum(scene.text.startswith("...\n") for scene in drawn) > 15
    assert any(f">>> {scene.examples[0].call}" in scene.text for scene in drawn)
    assert all(script(scene).startswith("from ") for scene in drawn)
