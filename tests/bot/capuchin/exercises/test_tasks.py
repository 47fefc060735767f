import ast
import random
import re

import pytest

from bot.capuchin.exercises.names import module
from bot.capuchin.exercises.scenes import Scenes
from bot.capuchin.exercises.tasks import MIX, exercise, write_edit, write_test
from bot.capuchin.exercises.turns import edit_reply
from bot.capuchin.training.evaluate import EDIT, TEST, at_least_one, judge_edit, judge_test

REPLY = re.compile(
    r"<relevant>[^<]+</relevant>|<irrelevant/>|<ranking>\n(\S+\n)+</ranking>|<approve/>|<done/>|<choose>[1-9]</choose>"
    rf"|{EDIT.pattern}|{TEST.pattern}",
    re.DOTALL,
)


@pytest.mark.parametrize("seed", range(40))
def test_every_reply_to_learn_has_a_known_form(scenes: Scenes, seed: int) -> None:
    _, turns = exercise(scenes, random.Random(seed))
    assert [turn.role for turn in turns] == ["user", "assistant"] * (len(turns) // 2)
    learned = [turn.content for turn in turns if turn.loss]
    assert learned
    assert turns[-1].loss
    for content in learned:
        assert REPLY.fullmatch(content), content


@pytest.mark.parametrize("seed", range(25))
def test_the_reference_replies_are_judged_right(scenes: Scenes, seed: int) -> None:
    rng = random.Random(seed)
    scene = scenes.draw(rng)
    edit, test = write_edit(scene, rng), write_test(scene, rng)
    assert edit is not None
    assert test is not None
    result = judge_edit(scene, edit[1].content)
    assert (result.applies, result.line, result.exact) == (True, True, True)
    assert judge_test(scene, test[1].content)
    assert not judge_test(scene, edit[1].content)
    ast.parse(TEST.findall(test[1].content)[0])


def test_the_same_seed_gives_the_same_exercise(scenes: Scenes) -> None:
    assert exercise(scenes, random.Random(7)) == exercise(scenes, random.Random(7))


def test_all_kinds_come_up(scenes: Scenes) -> None:
    rng = random.Random(0)
    seen = {exercise(scenes, rng)[0] for _ in range(300)}
    assert seen == {name for name, _, _ in MIX} | {"ranking"}


def test_a_line_that_stands_twice_takes_lines_above_along() -> None:
    text = "def f():\n    return 1\n\ndef g():\n    return 2\n\ndef h():\n    x = 3\n    return 2\n"
    reply = edit_reply("m.py", text, "    return 2", "    return 4")
    assert reply is not None
    assert "def g():\n    return 2\n=======\ndef g():\n    return 4\n" in reply
    assert edit_reply("m.py", text, "    return 9", "    return 4") is None


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a.py", "a"),
        ("pkg/mod.py", "pkg.mod"),
        ("src/pkg/mod.py", "pkg.mod"),
        ("pkg/__init__.py", "pkg"),
        ("src/a/b/__init__.py", "a.b"),
    ],
)
def test_module_names_follow_paths(path: str, name: str) -> None:
    assert module(path) == name


def test_the_chance_of_one_in_k_is_unbiased() -> None:
    assert at_least_one(0, 64, 16) == 0.0
    assert at_least_one(64, 64, 1) == 1.0
    assert at_least_one(1, 4, 2) == pytest.approx(0.5)
