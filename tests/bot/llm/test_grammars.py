"""Grammars of a tiny model's replies: what they allow is checked with the library that the engine uses."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from bot.llm.grammars import edit_grammar, test_grammar, unique_searches
from bot.llm.replies import parse_edit_turn, parse_test_turn
from bot.patch.apply import Patch, apply
from bot.records import FinishReason, Issue, Reply, SourceFile

ISSUE = Issue(title="total is wrong", body="`total([1, 22])` gives `21`, expected `23`")
WHOLE = """import math


def total(items):
    n = 0
    for x in items:
        n -= x
    return n


def zero():
    n = 0
    return n
"""
SHOWN = "...\n" + WHOLE[WHOLE.index("def total") : WHOLE.index("\n\n\ndef zero")] + "\n..."
FILES = (SourceFile(path="pkg/sums.py", text=SHOWN),)


class Bytes:
    """A vocabulary of single bytes, and the end."""

    eos_token_id, bos_token_id = 256, None
    tokens = (*(bytes([n]) for n in range(256)), b"<|end|>")
    special_token_ids = (256,)

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


def follows(grammar: str | None, text: str) -> bool:
    """Whether the text is a whole reply by the grammar."""
    assert grammar is not None
    matcher = LLMatcher(LLTokenizer(TokenizerWrapper(Bytes())), LLMatcher.grammar_from_lark(grammar), log_level=0)  # type: ignore[arg-type]
    assert not matcher.get_error()
    return matcher.try_consume_tokens(list(text.encode())) == len(text.encode()) and bool(matcher.is_accepting())


def edit(search: str, new: str, path: str = "pkg/sums.py") -> str:
    return f'<edit path="{path}">\n<<<<<<< SEARCH\n{search}\n=======\n{new}\n>>>>>>> REPLACE\n</edit>'


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        (edit("        n -= x", "        n += x"), True),
        (edit("    for x in items:", "    for x in sorted(items, key=len):\n        n = n + 22"), True),
        (edit("    return n", ""), False),  # stands twice
        (edit("    for x in items:\n        n -= x", ""), False),  # longer than it need be
        (edit("def total(items):\n    n = 0", "def total(items):\n    n = 1"), True),
        (edit("    n = 0", "    n = 1"), False),  # stands twice in the file
        (edit("        n -= y", "        n += x"), False),
        (edit("import math", "import math"), False),  # was not shown
        (edit("...", "x"), False),
        (edit("        n -= x", "        n += element"), False),  # a word that nothing has
        (edit("        n -= x", "        n += xitems"), False),
        (edit("        n -= x", "        n += x", "pkg/sum.py"), False),
        ("It is the sign.\n" + edit("        n -= x", "        n += x"), False),
        ("<done/>", False),
    ],
)
def test_edits(text: str, allowed: bool) -> None:
    grammar = edit_grammar(ISSUE, FILES, {"pkg/sums.py": WHOLE}.get)
    assert grammar is not None
    assert follows(grammar, text) is allowed
    if allowed:
        turn = parse_edit_turn(Reply(text=text, finish_reason=FinishReason.STOP))
        assert isinstance(apply(turn.edits, {"pkg/sums.py": WHOLE}.get, paths=("pkg/sums.py",)), Patch)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("from pkg.sums import total\nassert total([1, 22]) == 23", True),
        ("from pkg.sums import total\n\ntry:\n    total(None)\nexcept TypeError:\n    pass", True),
        ("from pkg.sums import totally\nassert totally([1, 22]) == 23", False),
        ("from pkg.sums import total\nassert total([1, 222]) == 23", False),
    ],
)
def test_tests(text: str, allowed: bool) -> None:
    reply = f'<test path="test_issue.py">\n{text}\n</test>'
    assert follows(test_grammar(ISSUE, FILES), reply) is allowed
    if allowed:
        turn = parse_test_turn(Reply(text=reply, finish_reason=FinishReason.STOP))
        assert turn.test is not None  # type: ignore[union-attr]
        assert turn.test.text.strip() == text  # type: ignore[union-attr]


HELPERS = """Given

```python
def even(n):
    k = n % 2
    return k == 0

rows = [
    1,
    22,
]
```

>>> class Box:
...     size = 3
>>> total(filter(even, rows))
"""


@pytest.mark.parametrize(
    ("lines", "allowed"),
    [
        ("def even(n):\n    k = n % 2\n    return k == 0\nrows = [\n    1,\n    22,\n]", True),
        ("class Box:\n    size = 3", True),
        ("rows = [1, 22]", True),
        ("def even(n):\n    return k == 0", False),  # not as the issue has it
        ("def rows(n):\n    return n", False),
        ("    return k == 0", False),
    ],
)
def test_statements_over_several_lines_are_quoted_whole(lines: str, allowed: bool) -> None:
    issue = Issue(title="total is wrong", body=HELPERS)
    test = f"from pkg.sums import total\n{lines}\nassert total(filter(even, rows)) == 22"
    assert follows(test_grammar(issue, FILES), f'<test path="test_issue.py">\n{test}\n</test>') is allowed


def test_no_python_no_grammar_of_tests() -> None:
    assert test_grammar(ISSUE, (SourceFile(path="lib/sums.js", text="exports.total = 1\n"),)) is None


def test_a_test_may_be_approved() -> None:
    assert follows(test_grammar(ISSUE, FILES), "<approve/>")


def test_nothing_to_search_for() -> None:
    assert edit_grammar(ISSUE, (), lambda _: None) is None
    assert edit_grammar(ISSUE, (SourceFile(path="a.py", text="\n...\n"),), lambda _: None) is None


def test_what_would_end_a_string_or_a_rule_is_quoted() -> None:
    text = 'a = "\\n|"  # {"x"} \t東京\nb = "\\n"\n'
    files = (SourceFile(path='we"ird/\\a.py', text=text),)
    grammar = edit_grammar(Issue(title="%json {", body='"""'), files, lambda _: text)
    assert grammar is not None
    assert follows(grammar, edit('a = "\\n|"  # {"x"} \t東京', 'a = "|"', 'we"ird/\\a.py'))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["a", " b", "a", "", "...", "c = 1"]), max_size=12), st.data())
def test_each_search_stands_in_the_file_once(lines: list[str], data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, len(lines)))
    shown = "\n".join(["...", *lines[begin : begin + 6], "..."])
    for search in unique_searches(shown, "\n".join(lines)):
        wanted = search.split("\n")
        starts = [i for i in range(len(lines)) if lines[i : i + len(wanted)] == wanted]
        assert len(starts) == 1
        assert "..." not in wanted
