"""What models do to the lines that they copy for SEARCH is forgiven where the place is still the only one."""

import pytest

from bot.patch.apply import Block, Problem, Replace, apply
from bot.patch.matching import unnumbered
from bot.records import Patch

MOD = """import os


class Stack:
    def push(self, item):
        self.items.append(item)

        return item

    def pop(self):
        return self.items[0]


def size(stack):
    return len(stack.items)
"""


def after(search: str, new: str, text: str = MOD) -> str:
    patch = apply([Replace(path="m.py", blocks=(Block(search=search, replace=new),))], {"m.py": text}.get)
    assert isinstance(patch, Patch), patch
    assert patch.changes[0].text is not None
    return patch.changes[0].text


POP, FIXED = "    def pop(self):\n        return self.items[0]", "    def pop(self):\n        return self.items.pop()"


def numbered(text: str, form: str, first: int = 10) -> str:
    return "\n".join(form.format(n, line) for n, line in enumerate(text.split("\n"), first))


@pytest.mark.parametrize(
    "form", ["{0:5} | {1}", "> {0:5} | {1}", "{0} | {1}", "{0}: {1}", "{0}|{1}", "{0:6}\t{1}", "L{0}: {1}",
             "{0}-{1}", "m.py:{0}:{1}", "pkg/m.py-{0}-{1}", "{0}. {1}", "[{0}] {1}"],
)  # fmt: skip
@pytest.mark.parametrize("both", [True, False])
def test_line_numbers_are_forgiven(form: str, both: bool) -> None:
    new = numbered(FIXED, form) if both else FIXED
    assert after(numbered(POP, form), new) == MOD.replace(POP, FIXED)


def test_line_numbers_with_a_line_added() -> None:
    new = "   10 |     def pop(self):\n        item = self.items.pop()\n   11 |         return item"
    wanted = "    def pop(self):\n        item = self.items.pop()\n        return item"
    assert after(numbered(POP, "{0:5} | {1}"), new) == MOD.replace(POP, wanted)


def test_numbers_that_belong_to_the_file_stay() -> None:
    table = "1: one\n2: two\n3: three\n"
    assert after("2: two", "2: deux", table) == "1: one\n2: deux\n3: three\n"
    search = ["1 | a", "b"]
    assert unnumbered(search, []) == (search, [])
    falling = ["2 | a", "1 | b"]
    assert unnumbered(falling, []) == (falling, [])


@pytest.mark.parametrize(
    ("search", "new", "was", "becomes"),
    [
        (  # one line changed, the blank ones stay
            "        self.items.append(item)\n        return item\n    def pop(self):\n        return self.items[0]",
            "        self.items.append(item)\n        return item\n    def pop(self):\n        return self.items.pop()",
            "self.items[0]",
            "self.items.pop()",
        ),
        (  # a line added to the end of a function
            "        return item\n    def pop(self):",
            "        print(item)\n        return item\n    def pop(self):",
            "        return item\n",
            "        print(item)\n        return item\n",
        ),
        (  # a decorator before the next function
            "        return self.items[0]\ndef size(stack):",
            "        return self.items[0]\n@cached\ndef size(stack):",
            "def size",
            "@cached\ndef size",
        ),
        (  # a function between two
            "        return self.items[0]\ndef size(stack):",
            "        return self.items[0]\ndef f():\n    pass\ndef size(stack):",
            "def size",
            "def f():\n    pass\n\n\ndef size",
        ),
        (  # a line removed
            "        self.items.append(item)\n        return item\n    def pop(self):",
            "        self.items.append(item)\n    def pop(self):",
            "\n        return item\n",
            "",
        ),
        (  # under another indentation
            "self.items.append(item)\nreturn item",
            "self.items.insert(0, item)\nreturn item",
            "append(item)",
            "insert(0, item)",
        ),
        (  # more blank lines than the file has
            "    def pop(self):\n\n        return self.items[0]",
            "    def pop(self):\n\n        return self.items[-1]",
            "[0]",
            "[-1]",
        ),
        (  # line numbers and no blank lines
            "    6 |         self.items.append(item)\n    8 |         return item",
            "    6 |         self.items.append(item)\n    8 |         return None",
            "return item",
            "return None",
        ),
    ],
)
def test_blank_lines_that_were_not_copied_stay(search: str, new: str, was: str, becomes: str) -> None:
    assert after(search, new) == MOD.replace(was, becomes)


def test_without_blank_lines_the_place_must_be_the_only_one() -> None:
    text = "a\n\nb\nc\na\n\nb\n"
    found = apply([Replace(path="m", blocks=(Block(search="a\nb", replace="x"),))], {"m": text}.get)
    assert isinstance(found, Problem)
    assert found.short == "SEARCH text was found 2 times in m"


@pytest.mark.parametrize(
    ("search", "new"),
    [
        (POP.replace("    ", "\t"), FIXED.replace("    ", "\t")),
        (POP.replace("    ", "  "), FIXED.replace("    ", "  ")),
        (POP.replace("    ", "\u00a0" * 4), FIXED.replace("    ", "\u00a0" * 4)),
        ("\n".join(f"-{line}" for line in POP.split("\n")), "\n".join(f"+{line}" for line in FIXED.split("\n"))),
        ("     def pop(self):\n-        return self.items[0]", "     def pop(self):\n+        return self.items.pop()"),
    ],
    ids=["tabs", "two spaces", "other spaces", "signs", "signs of what changes"],
)
def test_another_style_of_the_same_lines(search: str, new: str) -> None:
    assert after(search, new) == MOD.replace(POP, FIXED)


def test_new_lines_get_the_indentation_of_the_place() -> None:
    search = "\tdef pop(self):\n\t\treturn self.items[0]"
    new = "\tdef pop(self):\n\t\tif self.items:\n\t\t\treturn self.items.pop()\n\n\t\treturn None\n\n\nLAST = 1"
    wanted = new.replace("\t", "    ")
    assert after(search, new) == MOD.replace(POP, wanted)
    tabbed = MOD.replace("    ", "\t")
    assert after(POP, wanted, tabbed) == tabbed.replace(search, new)


QUOTED = 'def say():\n    return f"it\'s {1 - 1}"  # \u2013 so it is\n'


def test_characters_that_only_look_alike() -> None:
    odd = "    return f\u201cit\u2019s {1 \u2212 1}\u201d  # \u2013 so it is"
    assert after(odd, odd.replace("so", "as"), QUOTED) == QUOTED.replace("so it", "as it")
    new = "    return f\u201cit\u2019s {2}\u201d  # \u2013 so"
    assert after(odd, new, QUOTED).endswith('    return f"it\'s {2}"  # \u2013 so\n'), "the file's own dash stays"


def test_entities_of_html() -> None:
    text = "if a < b and s == '&amp;':\n    pass\n"
    assert after("if a &lt; b and s == '&amp;amp;':", "if a &lt;= b and s == '&amp;amp;':", text) == text.replace(
        "<", "<="
    )
    assert after("if a < b and s == '&amp;':", "if a < b and s == '&lt;':", text) == text.replace("&amp;", "&lt;")
