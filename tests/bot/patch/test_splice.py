"""Whole definitions spliced in by the syntax tree: the same as SEARCH/REPLACE would make, in every language."""

import textwrap
from pathlib import Path

import pytest

from bot.patch.redefine import NotDefined
from bot.patch.splice import spliced
from bot.patch.syntax_tree import Language, Source, Span, language_of

PYTHON = '''#!/usr/bin/env python
"""What it is for."""

import os

LIMIT = 10


# about take
@cache
def take(n, seq):
    """The first n.

    >>> take(1, [2])
    """
    return seq[1:n]


class Box:
    """A box."""

    size = 1

    @property
    def thing(self):
        return self._thing

    @thing.setter
    def thing(self, value):
        self._thing = value

    async def get(self, key):
        text = """
no indentation
    here
"""
        return text + key

    class Lid:
        def get(self):
            return 1


class Bag:
    def get(self):
        return 1

    @staticmethod
    def make():
        return Bag()


def outer():
    def inner():
        return 1

    return inner


if __name__ == "__main__":
    take(1, [])
'''
JAVASCRIPT = """'use strict';
import a from "a";
const b = require("b");

// adds
export default function add(x, y) {
  return x - y;
}

export const twice = (x) => {
  return x * 3;
};

class Box extends Base {
  static make() { return new Box(); }

  get size() {
    return this._size;
  }

  set size(value) {
    this._size = value;
  }

  async put(thing) {
    const text = `
left
`;
    return text;
  }
}

exports.half = function (x) {
  return x / 3;
};
"""
TYPESCRIPT = """import { A } from "./a";

function pick(a: string): string;
function pick(a: number): number;
function pick(a: any): any {
  return null;
}

export interface Shape {
  area(): number;
}

export class Box<T> implements Shape {
  private readonly things: T[] = [];

  @log
  public area(): number {
    return 0;
  }

  protected static of<T>(x: T): Box<T> {
    return new Box<T>();
  }
}
"""
GO = """// Package a is small.
package a

import (
\t"fmt"
)

// Add adds.
func Add(a, b int) int {
\treturn a - b
}

type T struct {
\tn int
}

type U struct{}

// Get gets.
func (t *T) Get() int {
\treturn t.n
}

func (u U) Get() int {
\treturn 2
}

const (
\tOne = 1
\tTwo = 3
)

func main() {
\tfmt.Println(Add(1, 2))
}
"""
RUST = """//! A crate.
use std::fmt;

/// A pair.
#[derive(Debug)]
pub struct Pair {
    a: i32,
}

impl Pair {
    /// Makes one.
    #[inline]
    pub fn new(a: i32) -> Self {
        Pair { a }
    }

    fn get(&self) -> i32 {
        self.a + 1
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", self.a)
    }
}

pub(crate) fn twice(x: i32) -> i32 {
    x * 3
}
"""
RUBY = """# frozen_string_literal: true

require "set"

module Shop
  class Cart < Base
    # The sum.
    def total
      @items.sum + 1
    end

    def self.make
      new
    end
  end

  class List
    def total
      0
    end
  end
end
"""
JAVA = """package a.b;

import java.util.List;

/** A box. */
public class Box {
    private int n = 1;

    public Box() {
        this.n = 2;
    }

    /** Adds. */
    @Override
    public int add(int a) {
        return a - 1;
    }

    public int add(int a, int b) {
        return a - b;
    }

    static class Lid {
        int add(int a) {
            return a;
        }
    }
}
"""
FILES: dict[Language, str] = {
    "python": PYTHON,
    "javascript": JAVASCRIPT,
    "typescript": TYPESCRIPT,
    "tsx": TYPESCRIPT,
    "go": GO,
    "rust": RUST,
    "ruby": RUBY,
    "java": JAVA,
}


def own_texts(language: Language, text: str) -> list[tuple[str, int, str]]:
    """(full name, line, text) of every definition with all that belongs to it."""
    source = Source(language, text)
    return [
        (d.full_name, d.line, source.indent(d.lead) + source.text(Span(d.lead, d.outer.end)))
        for d in source.definitions
        if not d.grouped
    ]


@pytest.mark.parametrize("language", FILES)
def test_its_own_text_changes_nothing(language: Language) -> None:
    text = FILES[language]
    for name, line, own in own_texts(language, text):
        for written in (own, textwrap.dedent(own), own.strip()):
            if written != own and ("no indentation" in own or "left" in own):
                continue  # a string at the margin keeps the rest from being moved
            assert spliced(language, text, written, name, line) == text, (name, written)
            if name.count(".") == 0 and written == own:
                assert spliced(language, text, written) == text, name


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[3].glob("bot/patch/re*.py")), ids=lambda p: p.name)
def test_its_own_text_changes_nothing_in_real_files(path: Path) -> None:
    text = path.read_text()
    for name, line, own in own_texts("python", text):
        assert spliced("python", text, own, name, line) == text


@pytest.mark.parametrize("ending", ["py", "js", "ts", "tsx", "go", "rs", "rb", "java"])
def test_the_language_is_that_of_the_ending(ending: str) -> None:
    assert language_of(f"a/b.{ending}") is not None
    assert language_of(f"a/{ending}") is None


@pytest.mark.parametrize(
    ("language", "name", "new", "old_line", "new_line"),
    [
        ("python", "take", "def take(n, seq):\n    return seq[:n]", "seq[1:n]", "seq[:n]"),
        ("python", "Bag.get", "def get(self):\n    return 2", "Bag:\n    def get(self):\n        return 1", "2"),
        ("python", "Box.Lid.get", "def get(self):\n    return 2", "def get(self):\n            return 1", "2"),
        ("python", "Lid::get", "    def get(self):\n        return 2", "def get(self):\n            return 1", "2"),
        ("python", "Bag.make", "def make():\n    return None", "return Bag()", "return None"),
        ("python", "outer.inner", "def inner():\n    return 2", "def inner():\n        return 1", "2"),
        ("python", "def outer.<locals>.inner()", "def inner():\n    return 2", "inner():\n        return 1", "2"),
        ("python", "LIMIT", "LIMIT = 20", "LIMIT = 10", "LIMIT = 20"),
        ("python", "Box.size", "size = 2", "size = 1", "size = 2"),
        ("python", "Box.thing", "def thing(self):\n    return 1", "return self._thing", "return 1"),
        (
            "python",
            "Box.thing",
            "@thing.setter\ndef thing(self, value):\n    self._thing = value + 1",
            "self._thing = value",
            "self._thing = value + 1",
        ),
        ("javascript", "add", "function add(x, y) {\n  return x + y;\n}", "x - y", "x + y"),
        ("javascript", "twice", "const twice = (x) => {\n  return x * 2;\n};", "x * 3", "x * 2"),
        ("javascript", "Box.size", "get size() {\n  return 1;\n}", "return this._size;", "return 1;"),
        ("javascript", "Box#size", "set size(value) {\n  this.s = value;\n}", "this._size = value;", "this.s = value;"),
        ("javascript", "Box.make", "make() { return null; }", "return new Box();", "return null;"),
        ("javascript", "half", "exports.half = function (x) {\n  return x / 2;\n};", "x / 3", "x / 2"),
        ("typescript", "pick", "function pick(a: any): any {\n  return a;\n}", "return null", "return a"),
        ("typescript", "Box.area", "area(): number {\n  return 1;\n}", "return 0", "return 1"),
        (
            "typescript",
            "Box.of",
            "  protected static of<T>(x: T): Box<T> {\n    return x;\n  }",
            "return new Box<T>()",
            "return x",
        ),
        ("go", "Add", "func Add(a, b int) int {\n    return a + b\n}", "a - b", "a + b"),
        ("go", "T.Get", "func (t *T) Get() int {\n\treturn t.n + 1\n}", "return t.n", "return t.n + 1"),
        ("go", "(u U) Get", "func (u U) Get() int {\n\treturn 3\n}", "return 2", "return 3"),
        ("go", "", "func (u U) Get() int {\n\treturn 3\n}", "return 2", "return 3"),
        ("go", "Two", "const Two = 2", "Two = 3", "Two = 2"),
        ("rust", "Pair::get", "fn get(&self) -> i32 {\n    self.a\n}", "self.a + 1", "self.a"),
        ("rust", "Pair.new", "fn new(a: i32) -> Self {\n    Pair { a: 1 }\n}", "Pair { a }", "Pair { a: 1 }"),
        ("rust", "twice", "fn twice(x: i32) -> i32 {\n    x * 2\n}", "x * 3", "x * 2"),
        ("ruby", "Cart#total", "def total\n  @items.sum\nend", "sum + 1", "sum"),
        ("ruby", "Shop::List.total", "def total\n  1\nend", "      0\n", "      1\n"),
        ("java", "Box.add", "public int add(int a) {\n    return a + 1;\n}", "a - 1", "a + 1"),
        ("java", "Box.add", "int add(int a, int b) {\n    return a + b;\n}", "a - b", "a + b"),
        ("java", "Lid.add", "int add(int a) {\n    return 0;\n}", "return a;\n        }", "return 0;\n        }"),
        ("java", "Box.n", "private int n = 3;", "n = 1", "n = 3"),
    ],
)
def test_one_definition(language: Language, name: str, new: str, old_line: str, new_line: str) -> None:
    text = FILES[language]
    assert text.count(old_line) == 1
    if new_line.isdecimal():
        new_line = old_line[:-1] + new_line
    assert spliced(language, text, new, name) == text.replace(old_line, new_line)


def test_docstrings_and_comments_stay_unless_they_are_continued() -> None:
    made_up = 'def take(n, seq):\n    """Another thing."""\n    return seq[:n]'
    assert spliced("python", PYTHON, made_up) == PYTHON.replace("seq[1:n]", "seq[:n]")
    longer = '''def take(n, seq):
    """The first n, or all.

    >>> take(1, [2])
    """
    return seq[:n]'''
    changed = PYTHON.replace("seq[1:n]", "seq[:n]").replace("The first n.", "The first n, or all.")
    assert spliced("python", PYTHON, longer) == changed
    alone = 'def take(n, seq):\n    """Words."""\n    return seq[1:n]'
    assert '"""Words."""' in spliced("python", PYTHON, alone)
    remark = "# Corrected function\ndef take(n, seq):\n    return seq[:n]"
    assert spliced("python", PYTHON, remark) == PYTHON.replace("seq[1:n]", "seq[:n]")
    doc = "// Add adds two numbers.\nfunc Add(a, b int) int {\n\treturn a + b\n}"
    assert spliced("go", GO, doc) == GO.replace("// Add adds.", "// Add adds two numbers.").replace("a - b", "a + b")


def test_decorators_attributes_and_export_that_are_written_replace_those_that_are_there() -> None:
    assert spliced("python", PYTHON, "@other\ndef take(n, seq):\n    return seq[1:n]") == PYTHON.replace(
        "@cache", "@other"
    )
    assert "@other\ndef outer():" in spliced("python", PYTHON, "@other\ndef outer():\n    return 1")
    new = "#[must_use]\npub fn new(a: i32) -> Self {\n    Pair { a }\n}"
    assert spliced("rust", RUST, new) == RUST.replace("#[inline]", "#[must_use]")
    assert spliced("javascript", JAVASCRIPT, "export function add(x, y) {\n  return x - y;\n}") == JAVASCRIPT.replace(
        "export default function", "export function"
    )
    assert spliced("rust", RUST, "pub fn get(&self) -> i32 {\n    self.a + 1\n}") == RUST.replace(
        "    fn get(&self)", "    pub fn get(&self)"
    )


def test_members_that_a_class_does_not_show_stay() -> None:
    part = "class Box:\n    class Lid:\n        def get(self):\n            return 2"
    assert spliced("python", PYTHON, part) == PYTHON.replace(
        "def get(self):\n            return 1", "def get(self):\n            return 2"
    )
    grown = "class Bag(Base):\n    def get(self): ...\n\n    def put(self):\n        return 3"
    expected = PYTHON.replace("class Bag:", "class Bag(Base):").replace(
        "return 1\n\n    @staticmethod", "return 1\n\n    def put(self):\n        return 3\n\n    @staticmethod"
    )
    assert spliced("python", PYTHON, grown) == expected
    with pytest.raises(NotDefined, match="Bag would lose get, make"):
        spliced("python", PYTHON, "class Bag:\n    pass")
    impl = "impl Pair {\n    fn get(&self) -> i32 {\n        self.a\n    }\n}"
    assert spliced("rust", RUST, impl) == RUST.replace("self.a + 1", "self.a")


def test_new_definitions_find_their_place() -> None:
    beside = "def take(n, seq):\n    return seq[:clamp(n)]\n\n\ndef clamp(n):\n    return max(n, 0)"
    new = spliced("python", PYTHON, beside)
    assert "return seq[:clamp(n)]\n\n\ndef clamp(n):\n    return max(n, 0)\n\n\nclass Box:" in new
    method = spliced("python", PYTHON, "def put(self, x):\n    return x", "Bag.put")
    assert "return Bag()\n\n    def put(self, x):\n        return x\n\n\ndef outer" in method
    lone = spliced("python", PYTHON, "def quite_other():\n    return 1")
    assert "return inner\n\n\ndef quite_other():\n    return 1\n\n\nif __name__" in lone
    go = spliced("go", GO, "func (t *T) Put(n int) {\n\tt.n = n\n}")
    assert "return t.n\n}\n\nfunc (t *T) Put(n int) {\n\tt.n = n\n}\n\nfunc (u U)" in go
    java = spliced("java", JAVA, "int sub(int a) {\n    return a;\n}", "Box.sub")
    assert "return a - b;\n    }\n\n    int sub(int a) {\n        return a;\n    }\n\n    static" in java
    rust = spliced("rust", RUST, "fn put(&mut self) {}", "Pair::put")
    assert "self.a + 1\n    }\n\n    fn put(&mut self) {}\n}\n\nimpl fmt" in rust
    constant = spliced("python", PYTHON, "STEP = 2\n\n\ndef take(n, seq):\n    return seq[:n:STEP]")
    assert constant.index("STEP = 2") < constant.index("def take") < constant.index("seq[:n:STEP]")
    assert spliced("python", "", "def f():\n    return 1") == "def f():\n    return 1\n"


def test_imports_beside_a_definition_are_merged() -> None:
    new = "import os\nimport re\nfrom typing import Any\n\ndef take(n, seq):\n    return seq[:n]"
    expected = PYTHON.replace("seq[1:n]", "seq[:n]").replace(
        "import os\n", "import os\nimport re\nfrom typing import Any\n"
    )
    assert spliced("python", PYTHON, new) == expected
    future = spliced("python", PYTHON, "from __future__ import annotations\n\ndef take(n, seq):\n    return seq[1:n]")
    assert future.startswith(
        '#!/usr/bin/env python\n"""What it is for."""\n\nfrom __future__ import annotations\n\nimport os'
    )
    bare = spliced("python", '"""Doc."""\n\n\ndef f():\n    return 1\n', "import re\n\ndef f():\n    return re")
    assert bare == '"""Doc."""\n\nimport re\n\n\ndef f():\n    return re\n'
    go = spliced("go", GO, 'import "strings"\n\nfunc Add(a, b int) int {\n\treturn a - b\n}')
    assert go == GO.replace('\t"fmt"\n', '\t"fmt"\n\t"strings"\n')
    assert 'import c from "c";\n' in spliced("javascript", JAVASCRIPT, 'import c from "c";\nfunction add() {\n}')
    assert "use std::fmt;\nuse std::io;\n" in spliced("rust", RUST, "use std::io;\nuse std::fmt;\nfn twice() {}")
    assert 'require "set"\nrequire "json"\n' in spliced(
        "ruby", RUBY, 'require "json"\nclass Shop::List\n  def total\n    1\n  end\nend'
    )
    java = spliced(
        "java", JAVA, "import java.util.Map;\nclass Lid {\n    int add(int a) {\n        return 1;\n    }\n}"
    )
    assert "import java.util.List;\nimport java.util.Map;\n" in java
    both = spliced("python", "from a import b\n", "from a import b, c")
    assert both == "from a import b\nfrom a import c\n"


@pytest.mark.parametrize(
    ("new", "name", "said"),
    [
        ("def get(self):\n    return 3", "", "get is defined 2 times\nOn lines"),
        ("def tak(n, seq):\n    return 3", "", "there is no tak\nDid you mean take"),
        ("def put(self):\n    return 3", "Bax.put", "there is no Bax\nDid you mean Box, Bag?"),
        ("def take(n, seq):\n    # ... existing code ...\n    return 3", "", "the new text leaves lines out"),
        ("def take(n, seq):\n    ...", "", "the new text of take has no body"),
        ("def take(n, seq:\n    return 1", "", "the new text does not parse"),
        ("", "take", "the new text defines no function"),
        ("seq[:n]", "take", "the new text defines no function"),
    ],
)
def test_what_can_not_be_placed_is_told(new: str, name: str, said: str) -> None:
    with pytest.raises(NotDefined) as error:
        spliced("python", PYTHON, new, name)
    assert said in str(error.value)


def test_a_line_tells_namesakes_apart() -> None:
    text = "try:\n    def f():\n        return 1\nexcept ImportError:\n    def f():\n        return 2\n"
    new = "def f():\n    return 3"
    with pytest.raises(NotDefined, match='Add line="2"'):
        spliced("python", text, new)
    assert spliced("python", text, new, "f", 5) == text.replace("return 2", "return 3")


def test_a_dedented_method_that_ends_with_a_bracket() -> None:
    text = "class A:\n    def f(self):\n        return {\n            1: 2,\n        }\n"
    assert spliced("python", text, "def f(self):\n    return {\n        1: 3,\n    }", "A.f") == text.replace(
        "2,", "3,"
    )


def test_strings_at_the_margin_stay_there() -> None:
    new = 'async def get(self, key):\n    text = """\nno indentation\n    here\n"""\n    return text + key + "!"'
    assert spliced("python", PYTHON, new, "Box.get") == PYTHON.replace("text + key", 'text + key + "!"')
    header_alone = '''async def get(self, key):
        text = """
no indentation
    here
"""
        return text + key + "!"'''
    assert spliced("python", PYTHON, header_alone, "Box.get") == PYTHON.replace("text + key", 'text + key + "!"')


OBJECT = """const api = {
  get(id) {
    return 1;
  },
  put: async (id) => {
    return 2;
  },
};

module.exports.run = async function run(x) {
  return x;
};
"""


@pytest.mark.parametrize(
    ("name", "new", "old_line", "new_line"),
    [
        ("api.get", "get(id) {\n  return id;\n}", "return 1", "return id"),
        ("put", "put: async (id) => {\n  return id;\n}", "return 2", "return id"),
        ("run", "async function run(x) {\n  return x + 1;\n}", "return x", "return x + 1"),
        ("run", "module.exports.run = async function run(x) {\n  return x + 1;\n}", "return x", "return x + 1"),
    ],
)
def test_properties_and_exports_of_javascript(name: str, new: str, old_line: str, new_line: str) -> None:
    assert spliced("javascript", OBJECT, new, name) == OBJECT.replace(old_line, new_line)


def test_comments_for_members_that_stay_are_no_members() -> None:
    part = "class Bag:\n    def get(self):\n        return 2\n\n    # ... other methods unchanged ...\n# ... the rest"
    expected = PYTHON.replace(
        "class Bag:\n    def get(self):\n        return 1", "class Bag:\n    def get(self):\n        return 2"
    )
    assert spliced("python", PYTHON, part) == expected


def test_a_new_method_of_ruby_goes_beside_its_equals() -> None:
    text = "class A\n  def one\n    1\n  end\n\n  class << self\n    def build\n      new\n    end\n  end\nend\n"
    new = spliced("ruby", text, "def shout\n  2\nend", "A#shout")
    assert new == text.replace("    1\n  end\n", "    1\n  end\n\n  def shout\n    2\n  end\n")


def test_overloads_are_replaced_together_where_one_comes_or_goes() -> None:
    more = (
        "function pick(a: string): string;\nfunction pick(a: number): number;\n"
        "function pick(a: boolean): boolean;\nfunction pick(a: any): any {\n  return a;\n}"
    )
    old = TYPESCRIPT[TYPESCRIPT.index("function pick") : TYPESCRIPT.index("\n\nexport interface")]
    assert spliced("typescript", TYPESCRIPT, more) == TYPESCRIPT.replace(old, more)
    first, last = "@overload\ndef f(self, a: int) -> int: ...\n", "def f(self, a):\n    return a"
    text = "class A:\n" + textwrap.indent(first + last, "    ") + "\n\n    x = 1\n"
    new = first + "@overload\ndef f(self, a: str) -> str: ...\n" + last
    expected = "class A:\n" + textwrap.indent(new, "    ") + "\n\n    x = 1\n"
    assert spliced("python", text, new, "A.f") == expected
