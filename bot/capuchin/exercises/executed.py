"""Executed examples: pure functions run with and without a mutation, which gives true actual and expected results.

A function is run only if it uses no names but its own, harmless builtins and harmless modules. It runs in a worker
process, on small made-up arguments, within limits of time and memory. `is_pure` rejects functions that could use files,
processes or the network.
"""

import ast
import bisect
import builtins
import collections
import contextlib
import dataclasses
import functools
import heapq
import io
import itertools
import json
import math
import multiprocessing
import operator
import random
import re
import resource
import signal
import string
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bot.capuchin.exercises.corpus import Function
from bot.capuchin.exercises.mutate import Mutation, mutate

MODULES = {m.__name__: m for m in (math, re, itertools, functools, operator, collections, string, heapq, bisect)}
_LOOSE = {
    name: getattr(m, name)
    for m in (itertools, functools, collections, math, operator)
    for name in dir(m)
    if not name.startswith("_")
}
_UNSAFE = {
    "open",
    "exec",
    "eval",
    "compile",
    "input",
    "breakpoint",
    "exit",
    "quit",
    "help",
    "globals",
    "locals",
    "vars",
    "setattr",
}
_UNSAFE |= {
    "delattr",
    "getattr",
    "memoryview",
    "__import__",
    "print",
    "id",
    "copyright",
    "credits",
    "license",
    "object",
    "super",
}
BUILTINS = {name: value for name, value in vars(builtins).items() if name not in _UNSAFE and not name.startswith("_")}
SECONDS, BYTES = 0.03, 1 << 30  # a call's limits


@dataclasses.dataclass(frozen=True)
class Executed:
    """A mutation of corpus function `index` with calls whose outcomes differ: (arguments, expected, actual).

    An outcome is `["value", literal]` or `["raise", type, message]`.
    """

    index: int
    mutation: Mutation
    examples: tuple[tuple[str, list[str], list[str]], ...]


def is_pure(function: Function) -> bool:
    """Whether the function may be run: no imports, no private attributes, only its own and the harmless names."""
    if function.method:
        return False
    try:
        tree = ast.parse(function.source)
    except SyntaxError:
        return False
    own = {function.name}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Global | ast.Nonlocal | ast.AsyncFunctionDef | ast.Await):
            return False
        if isinstance(node, ast.Attribute) and (
            node.attr.startswith("_") or node.attr in ("format_map", "tofile", "attrgetter")
        ):
            return False
        if isinstance(node, ast.arg):
            own.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ExceptHandler):
            own.add(node.name or "")
    loaded = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return all(name in own or name in BUILTINS or name in MODULES or name in _LOOSE for name in loaded)


def _load(source: str, name: str) -> Any:
    scope: dict[str, Any] = {"__builtins__": {**BUILTINS, "__build_class__": None}, **_LOOSE, **MODULES}
    exec(compile(source, "<corpus>", "exec", dont_inherit=True), scope)  # noqa: S102 - `is_pure` passed it
    return scope[name]


def _expire(signum: int, frame: types.FrameType | None) -> None:
    raise TimeoutError


def _outcome(call: Any, arguments: list[Any]) -> list[str] | None:
    """The outcome of the call; None if it takes too long or its value is not plain."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        result = call(*arguments)
        if isinstance(result, Iterator):
            result = list(itertools.islice(result, 50))
        signal.setitimer(signal.ITIMER_REAL, 0)
        text = repr(result)
        if len(text) > 90 or ast.literal_eval(text) != result:
            return None
        return ["value", text]
    except (TimeoutError, MemoryError, RecursionError, SystemExit, KeyboardInterrupt):
        return None
    except Exception as error:
        signal.setitimer(signal.ITIMER_REAL, 0)
        text = str(error)
        return ["raise", type(error).__name__, text] if len(text) < 80 and "\n" not in text else None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _argument(kind: str, rng: random.Random) -> Any:
    words = [
        "hello",
        "world",
        "abc",
        "Hello World",
        "foo bar",
        "a-b-c",
        "1010",
        "12",
        "racecar",
        "",
        "a,b,c",
        "aab",
        "x",
        "one two three",
    ]
    match kind:
        case "int":
            return rng.choice((rng.randrange(10), rng.randrange(30), rng.randrange(-9, 10), rng.randrange(200)))
        case "float":
            return round(rng.uniform(-5, 20), rng.randrange(1, 3))
        case "str":
            return (
                rng.choice(words) if rng.random() < 0.7 else "".join(rng.choices("abcxyz 012-_", k=rng.randrange(1, 9)))
            )
        case "ints":
            return [rng.randrange(-3, 15) for _ in range(rng.randrange(1, 7))]
        case "strs":
            return [rng.choice(words[:9]) for _ in range(rng.randrange(1, 5))]
        case "rows":
            return [[rng.randrange(10) for _ in range(2)] for _ in range(rng.randrange(1, 4))]
        case "dict":
            return {rng.choice("abcde"): rng.randrange(10) for _ in range(rng.randrange(1, 4))}
        case _:
            return rng.random() < 0.5


KINDS = ("int", "int", "str", "str", "ints", "ints", "strs", "float", "rows", "dict", "bool")


def _study(item: tuple[int, Function, int, int]) -> list[Executed]:
    """At most `count` mutations of one function, each with calls whose outcomes differ."""
    index, function, count, seed = item
    rng = random.Random(f"{seed}/{index}")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            original = _load(function.source, function.name)
    except Exception:
        return []
    first = ast.parse(function.source).body[0]
    assert isinstance(first, ast.FunctionDef)
    spec = first.args
    needed = len(spec.args) - len(spec.defaults)
    if spec.kwonlyargs or spec.posonlyargs or spec.vararg or spec.kwarg or not 1 <= len(spec.args) <= 5:
        return []
    good: list[tuple[str, list[str]]] = []
    shapes: list[list[str]] = []
    for attempt in range(150):
        size = rng.randint(max(1, needed), max(1, len(spec.args)))
        kinds = rng.choice(shapes) if shapes and attempt > 60 else [rng.choice(KINDS) for _ in range(size)]
        if attempt > 60 and not shapes:
            break
        arguments = [_argument(kind, rng) for kind in kinds]
        text = ", ".join(map(repr, arguments))
        outcome = _outcome(original, arguments)  # may change the arguments, so `text` was taken before
        if outcome and (
            (outcome[0] == "value" and outcome[1] not in ("None", "NotImplemented"))
            or (outcome[0] == "raise" and rng.random() < 0.02)
        ):
            if outcome[0] == "value":
                shapes.append(kinds)
            good.append((text, outcome))
    found: list[Executed] = []
    tried: set[str] = set()
    for _ in range(count * 4):
        if len(found) >= count or not good:
            break
        mutation = mutate(function.source, rng, function.doc)
        if mutation is None or mutation.after + str(mutation.line) in tried:
            continue
        tried.add(mutation.after + str(mutation.line))
        try:
            changed = _load(mutation.apply(function.source), function.name)
        except Exception:  # noqa: S112 - mutants that can't be loaded are skipped
            continue
        examples: list[tuple[str, list[str], list[str]]] = []
        for text, expected in rng.sample(good, min(len(good), 25)):
            actual = _outcome(changed, list(ast.literal_eval(f"[{text}]")))
            if (
                actual
                and actual[: 2 if actual[0] == "value" else 3] != expected
                and (text, expected, actual) not in examples
            ):
                examples.append((text, expected, actual))
            if len(examples) >= 4:
                break
        if examples:
            found.append(Executed(index, mutation, tuple(examples)))
    return found


def _limit() -> None:
    signal.signal(signal.SIGALRM, _expire)
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))


def study(functions: list[Function], seed: int, count: int = 12, workers: int = 3) -> list[Executed]:
    """Executed examples of all pure functions, in order. Depends slightly on the machine, by the time limit."""
    items = [(index, function, count, seed) for index, function in enumerate(functions) if is_pure(function)]
    found: list[Executed] = []
    with multiprocessing.get_context("fork").Pool(workers, _limit, maxtasksperchild=50) as pool:
        jobs = [pool.apply_async(_study, (item,)) for item in items]
        for job in jobs:
            try:
                found += job.get(timeout=20)
            except Exception:  # noqa: S112 - only the function of a killed worker is lost
                continue
        pool.terminate()
    return found


def load(path: Path) -> list[Executed]:
    """Read what `corpus.save` wrote; empty if there is no file."""
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [Executed(row["index"], Mutation(**row["mutation"]), tuple(map(tuple, row["examples"]))) for row in rows]
