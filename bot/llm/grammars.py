"""Grammars for the replies of a tiny model, in llguidance's dialect of Lark. Pure.

A model of a few million parameters copies badly: most of its edits search for a line that is not in the file, and its
tests call functions that do not exist. So the words of a test or an edit must be words of the prompt, and an edit must
search for lines that are in the file exactly once.
"""

import builtins
import collections
import functools
import itertools
import json
import keyword
import math
import operator
import re
from collections.abc import Callable, Sequence

from bot.llm.replies import DEFAULT_TEST_PATH
from bot.llm.test_script import statements
from bot.records import Issue, SourceFile
from bot.retrieval.excerpts import GAP

# Words that any program may use: Python's own, and those that tests and fixes in other common languages need.
_PYTHON = (builtins, str, list, dict, set, bytes, int, float, collections, functools, itertools, math, operator, re)
_OTHERS = """
Array Error Number Object String async await catch const console deepStrictEqual default end equal function key let new
null require reverse sep start step stop strictEqual this throw true false typeof undefined var void
"""
_WORD = re.compile(r"[A-Za-z0-9_]+")
DIVIDER, END = "=======\n", ">>>>>>> REPLACE\n</edit>"
_MOST_ABOVE = 5  # lines added before a line to make the search unique
_MOST_WORDS = 4000  # of a lexicon; a larger one would make the grammar slow, and constrain little


# A line of words of the lexicon, which does not begin like an end tag.
_LINES = """
LINE: (/[^A-Za-z0-9_\\n<>]/ GAP*)? REST
REST: (WORD GAP+)* WORD?
GAP: /[^A-Za-z0-9_\\n]/
"""
# Lines that a test may write itself. Others, such as helpers and long values, must be quoted from the issue.
_OWN = """own: OWN "\\n"
OWN: (("from " | "import " | "assert " | "with " | "except " | WORD " = ") GAP* REST) | "try:" | "else:" | IN_BLOCK
IN_BLOCK: "    pass" | "    raise AssertionError" | "    "? WORD ("." WORD)* "(" GAP* REST
"""


def test_grammar(issue: Issue, files: Sequence[SourceFile]) -> str | None:
    """For the test machine: a Python test in the words of issue and files, or its approval. None without Python files.

    Statements of several lines can only be quoted whole from the issue.
    """
    if not any(file.path.endswith(".py") for file in files):
        return None
    head = f'<test path="{DEFAULT_TEST_PATH}">\n'
    quotes = "".join(f" | {_quoted(text + chr(10))}" for text in statements(issue.body))
    start = f'start: {_quoted(head)} (own{quotes} | "\\n")* "</test>" | "<approve/>"\n'
    return _grammar(start + _OWN, issue, files)


test_grammar.__test__ = False  # type: ignore[attr-defined]


def edit_grammar(issue: Issue, files: Sequence[SourceFile], read: Callable[[str], str | None]) -> str | None:
    """For the edit machine: one edit that searches for lines of the prompt. None if no line can be searched for.

    `read` gives the whole text of a file, of which an excerpt may be shown.
    """
    edits = []
    for file in files:
        head = _quoted(f'<edit path="{file.path}">\n<<<<<<< SEARCH\n')
        searches = unique_searches(file.text, read(file.path) or file.text)
        if searches:
            edits.append(f"{head} ({' | '.join(_quoted(text + chr(10) + DIVIDER) for text in searches)})")
    start = f'start: ({" | ".join(edits)}) lines {_quoted(END)}\nlines: (LINE? "\\n")*\n'
    return _grammar(start, issue, files) if edits else None


def unique_searches(shown: str, whole: str) -> list[str]:
    """For each shown line the shortest run of lines that ends with it and is in the whole file once, if any."""
    lines, all_lines = shown.split("\n"), whole.split("\n")
    found: dict[str, None] = {}
    for end, line in enumerate(lines):
        if not line.strip() or line.strip() == GAP:
            continue
        for begin in range(end, max(-1, end - _MOST_ABOVE), -1):
            if lines[begin].strip() == GAP:
                break
            search = lines[begin : end + 1]
            times = sum(all_lines[at : at + len(search)] == search for at in range(len(all_lines)))
            if times == 1:
                found["\n".join(search)] = None
            if times <= 1:
                break
    return list(found)


def _grammar(start: str, issue: Issue, files: Sequence[SourceFile]) -> str:
    return f"{start}{_LINES}WORD: {' | '.join(map(_quoted, _lexicon(issue, files)))}\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _lexicon(issue: Issue, files: Sequence[SourceFile]) -> list[str]:
    """Every word and number of issue and files, and words that any program may use."""
    texts = [issue.text, DEFAULT_TEST_PATH]
    texts += [text for file in files for text in (file.path, file.text)]
    words = [word for text in texts for word in _WORD.findall(text)]
    return list(dict.fromkeys([*_common(), *words]))[:_MOST_WORDS]


@functools.cache
def _common() -> tuple[str, ...]:
    names = (name for home in _PYTHON for name in dir(home) if not name.startswith("_"))
    return tuple(dict.fromkeys([*keyword.kwlist, *names, *_OTHERS.split(), *map(str, range(10))]))
