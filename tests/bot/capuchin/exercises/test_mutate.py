import ast
import random

import pytest

from bot.capuchin.exercises.corpus import Function
from bot.capuchin.exercises.executed import Executed, is_pure
from bot.capuchin.exercises.mutate import candidates, mutate


@pytest.mark.parametrize("seed", range(60))
def test_a_mutation_parses_and_changes_one_line_of_code(functions: list[Function], seed: int) -> None:
    rng = random.Random(seed)
    function = rng.choice(functions)
    mutation = mutate(function.source, rng, function.doc)
    assert mutation is not None
    old, new = function.source.split("\n"), mutation.apply(function.source).split("\n")
    assert len(old) == len(new)
    assert [i for i in range(len(old)) if old[i] != new[i]] == [mutation.line]
    assert mutation.line not in range(*function.doc)
    assert ast.dump(ast.parse("\n".join(old))) != ast.dump(ast.parse("\n".join(new)))


def test_the_usual_slips_are_among_them(functions: list[Function]) -> None:
    lines = {m.after.strip() for f in functions for kind in candidates(f.source, f.doc).values() for m in kind}
    assert {
        "if number <= low:",  # boundary
        "return number < high",
        "return True",  # constant
        "for start in range(len(items) - size):",  # off by one
        "found.extend(items[start:start + size])",  # method
        "return max(values) + min(values)",  # operator
        "if values:",  # negation
        "return min(values) - min(values)",  # name
        "return separator.join(word[1].upper() for word in words if word)",  # number
    } <= lines


def test_what_does_not_parse_has_no_mutations() -> None:
    assert candidates("def broken(:\n") == {}


def test_executed_examples_differ_between_right_and_wrong(executed: list[Executed]) -> None:
    assert executed
    for record in executed:
        assert all(expected != actual for _, expected, actual in record.examples)


@pytest.mark.parametrize(
    "body",
    [
        "return open(x)",
        "import os\n    return os.remove(x)",
        "return x.__class__",
        "return shutil.rmtree(x)",
        "return eval(x)",
    ],
)
def test_what_could_do_harm_is_never_run(body: str) -> None:
    assert not is_pure(Function("f", f"def f(x):\n    {body}\n", (0, 0), "x.py"))


def test_a_harmless_function_may_be_run() -> None:
    assert is_pure(Function("f", "def f(x):\n    y = math.sqrt(x)\n    return max(y, 1)\n", (0, 0), "x.py"))
