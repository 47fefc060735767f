"""What a model is examined with: tiny edits that can be made in one way, tests, and mistakes to correct. Pure.

No code of a model is run: an edit is compared with the right text, a test is read.
"""

import ast
import re
from dataclasses import dataclass

from bot.llm.ability import EditFormat
from bot.llm.replies import Turn, parse_edit_turn, parse_test_turn
from bot.patch.apply import Problem, apply
from bot.patch.syntax import parsed, tree_of
from bot.records import Reply, SourceFile

STOCK = '''"""Stock of a shop."""

import math


def total(values):
    """The sum of the values."""
    result = 1
    for value in values:
        result += value
    return result


def mean(values):
    return total(values) / len(values)


def largest(values, limit=10):
    found = sorted(values, reverse=True)
    return found[:limit]


class Stock:
    """How many of each item there are."""

    def __init__(self):
        self.items = {}

    def add(self, item, count):
        if count > self.items.get(item, 0):
            self.items[item] = count
        return self.items[item]

    def remove(self, item, count):
        if count > self.items.get(item, 0):
            raise ValueError(item)
        self.items[item] -= count
        print(item)
        return self.items[item]
'''
CLAMP = """// Keeps numbers within bounds.
function clamp(value, low, high) {
  if (value < low) {
    return low;
  }
  if (value < high) {
    return high;
  }
  return value;
}

function within(value, low, high) {
  return value >= low && value <= high;
}

module.exports = { clamp, within };
"""
FILES = (SourceFile(path="shop/stock.py", text=STOCK), SourceFile(path="lib/clamp.js", text=CLAMP))


@dataclass(frozen=True)
class EditTask:
    """One change to one of the files, which can be made in one way."""

    path: str
    instruction: str
    before: str
    after: str

    @property
    def file(self) -> SourceFile:
        return next(file for file in FILES if file.path == self.path)

    def judge(self, reply: Reply, file: SourceFile | None = None) -> bool:
        """Whether the reply makes the change, in whichever format. `file`: a longer one that holds the task's."""
        there = file or self.file
        turn = parse_edit_turn(reply)
        if reply.failed or isinstance(turn, Problem) or not turn.edits:
            return False
        patch = apply(turn.edits, {there.path: there.text}.get, paths=(there.path,))
        if isinstance(patch, Problem) or [change.path for change in patch.changes] != [there.path]:
            return False
        return _same(there.path, patch.changes[0].text or "", there.text.replace(self.before, self.after))


EDITS = (
    EditTask(
        "shop/stock.py",
        "In the function `total` of shop/stock.py, `result` begins with 1. It shall begin with 0.",
        "    result = 1\n",
        "    result = 0\n",
    ),
    EditTask(
        "shop/stock.py",
        "In the method `remove` of the class `Stock` in shop/stock.py, delete the line `print(item)`.",
        "        print(item)\n",
        "",
    ),
    EditTask(
        "shop/stock.py",
        "In shop/stock.py, let the function `mean` return 0.0 if `values` is empty: insert the lines "
        "`if not values:` and `return 0.0` at the beginning of its body.",
        "def mean(values):\n",
        "def mean(values):\n    if not values:\n        return 0.0\n",
    ),
    EditTask(
        "lib/clamp.js",
        "In the function `clamp` of lib/clamp.js, the second condition is wrong: `value < high` shall be "
        "`value > high`.",
        "  if (value < high) {\n",
        "  if (value > high) {\n",
    ),
    EditTask(
        "shop/stock.py",
        "In the method `add` of the class `Stock` in shop/stock.py, change the comparison `>` to `>=`. The method "
        "`remove` stays as it is.",
        "    def add(self, item, count):\n        if count > self.items.get(item, 0):\n",
        "    def add(self, item, count):\n        if count >= self.items.get(item, 0):\n",
    ),
    EditTask(
        "shop/stock.py",
        "In shop/stock.py, the default of `limit` in the function `largest` shall be 5, not 10.",
        "def largest(values, limit=10):\n",
        "def largest(values, limit=5):\n",
    ),
)


@dataclass(frozen=True)
class TestTask:
    """A test for a fault of shop/stock.py: it calls `calls` and holds `says`."""

    __test__ = False

    title: str
    calls: str
    says: str

    def judge(self, reply: Reply) -> bool:
        """Whether the reply is a script that parses, imports what it calls and compares with what should be."""
        turn = parse_test_turn(reply)
        if reply.failed or not isinstance(turn, Turn) or turn.test is None:
            return False
        text = turn.test.text
        tree = tree_of(text)
        if tree is None:
            return False
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom | ast.Import)]
        named = any("stock" in ast.unparse(node) for node in imports)
        called = re.search(rf"\b{self.calls}\s*\(", text) is not None
        fails = any(isinstance(node, ast.Assert | ast.Raise) for node in ast.walk(tree)) or "exit(" in text
        return named and called and fails and self.says in text


TESTS = (
    TestTask("total([1, 2]) returns 4, it should return 3", "total", "3"),
    TestTask("mean([]) raises ZeroDivisionError, it should return 0.0", "mean", "0"),
    TestTask("largest([1, 2, 3], limit=2) should return [3, 2]", "largest", "[3, 2]"),
    TestTask("Stock().remove('a', 0) should return 0 for an item that was never added", "remove", "0"),
)


def mistaken(task: EditTask, form: EditFormat) -> str:
    """A reply to the task that can't be used, with a mistake that models make in that format."""
    wrong = "def no_such_function(values):\n    return None"
    if form == "define":
        return f'<define path="{task.path}" name="Store.no_such_function">\n{wrong}\n</define>'
    if form == "file":
        return f'<file path="{task.path}">\n# ... the rest of the file is unchanged ...\n</file>'
    if form == "diff":
        removed = "".join(f"-{line}\n" for line in wrong.split("\n"))
        return f"<diff>\n--- a/{task.path}\n+++ b/{task.path}\n@@ -1,2 +1,1 @@\n{removed}+pass\n</diff>"
    return f'<edit path="{task.path}">\n<<<<<<< SEARCH\n{wrong}\n=======\npass\n>>>>>>> REPLACE\n</edit>'


def problem_with(task: EditTask, text: str) -> str:
    """What a model is told of such a reply."""
    turn = parse_edit_turn(Reply(text=text))
    if isinstance(turn, Problem):
        return turn.text
    patch = apply(turn.edits, {task.path: task.file.text}.get, paths=(task.path,))
    return patch.text if isinstance(patch, Problem) else ""


def among_others(task: EditTask, characters: int) -> SourceFile:
    """The task's file amid other functions, some `characters` long."""
    around = max(0, characters - len(task.file.text)) // len(_filler(0))
    ahead = round(around / 2)
    before = "".join(_filler(number) for number in range(ahead))
    after = "".join(_filler(number) for number in range(ahead, around))
    head, _, rest = task.file.text.partition("def total")
    return SourceFile(path=task.path, text=f"{head}{before}def total{rest}\n\n{after}".rstrip() + "\n")


def _filler(number: int) -> str:
    return (
        f"def shelf_{number:04}(values, count={number}):\n"
        f'    """What is on shelf {number}, at most `count` of it."""\n'
        "    found = [value for value in values if value is not None]\n"
        f"    if len(found) > count + {number % 7}:\n"
        "        found = found[:count]\n"
        f"    return [value * {number % 11 + 1} for value in found]\n\n\n"
    )


def _same(path: str, one: str, other: str) -> bool:
    """Whether the texts are the same program: comments and white space do not count."""
    if one == other or not path.endswith(".py"):
        return re.sub(r"\s+", "", one) == re.sub(r"\s+", "", other)
    try:
        return ast.dump(parsed(one)) == ast.dump(parsed(other))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
