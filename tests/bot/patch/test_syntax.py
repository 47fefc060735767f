import ast
import gc
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from bot.patch.syntax import parsed, syntax_error

LONG = "".join(
    f"def f{i}(a, b=({i}, [a for a in (1, 2)])):\n    return [{{a: b}} for b in (a, b)]\n" for i in range(150)
)


def below(calls: int) -> ast.Module:
    """The tree, parsed so many calls deeper."""
    return below(calls - 1) if calls else parsed(LONG)


def give_way(phase: str, info: object) -> None:
    time.sleep(0)


def test_several_threads_parse_at_once():
    """CPython 3.11 raises `SystemError` where the garbage collection of one parse lets another in."""
    threshold = gc.get_threshold()
    gc.set_threshold(50)
    gc.callbacks.append(give_way)
    try:
        with ThreadPoolExecutor(4) as pool:
            trees = list(pool.map(below, range(8)))
    finally:
        gc.callbacks.remove(give_way)
        gc.set_threshold(*threshold)
    assert {len(tree.body) for tree in trees} == {150}


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("a.py", "x = '\\d'\n", ""),
        ("a.py", "\ufeffx = 1\n", ""),
        ("a.py", "def f(:\n", "SyntaxError"),
        ("a.py", "x = \0\n", ": "),
        ("a.json", "{", "Expecting"),
        ("a.toml", "x =", "TOMLDecodeError"),
        ("a.rb", "def (", ""),
    ],
)
def test_only_what_does_not_parse_is_told(path: str, text: str, said: str):
    found = syntax_error(path, text)
    assert said in found
    assert bool(said) == bool(found)
