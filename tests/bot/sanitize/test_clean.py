"""What readers of an issue do not see is removed and reported; what they see is kept."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bot.sanitize import clean
from tests.bot.sanitize.markdown import GITHUB, MARKDOWN


@pytest.mark.parametrize(
    ("text", "cleaned", "flag"),
    [
        ("a <!-- hidden --> b", "a  b", "HTML comments"),
        ("<!--\nhidden\n\nmore\n-->\nx", "\nx", "HTML comments"),
        ("seen\n\n<!-- hidden to the end\n\nx", "seen\n\n", "HTML comments"),
        ("> <!-- hidden --> b", ">  b", "HTML comments"),
        ("- a\n  <!-- hidden -->", "- a\n  ", "HTML comments"),
        ("\\` <!-- hidden ` -->", "\\` ", "HTML comments"),
        ("a ` b\n<!-- hidden ` -->", "a ` b\n", "HTML comments"),
        ("<div>\n` <!-- hidden ` -->\n</div>", "<div>\n` \n</div>", "HTML comments"),
        ("| ` | <!-- hidden ` --> |\n|---|---|", "| ` |  |\n|---|---|", "HTML comments"),
        ("# ` title\n<!-- hidden ` -->", "# ` title\n", "HTML comments"),
        ("a <? hidden ?> b", "a  b", "HTML comments"),
        ("a <!X hidden> b", "a  b", "HTML comments"),
        ("a <![CDATA[ hidden ]]> b", "a  b", "HTML comments"),
        ("<<!-- x -->!-- hidden -->", "", "HTML comments"),
        ("![hidden](http://x.example/y.png) z", "[image] z", "images and their alt text"),
        ("![hidden [a] b](<u> 'hidden') z", "[image] z", "images and their alt text"),
        ("![hidden][r] z", "[image] z", "images and their alt text"),
        ('<img src="x" alt="hidden"> z', "[image] z", "images and their alt text"),
        ("<picture><source srcset='x'><img alt='hidden'></picture> z", "[image] z", "images and their alt text"),
        ("<IMG alt='a > b'> z", "[image] z", "images and their alt text"),
        ('<a href="u" title="hidden > x">t</a>', '<a href="u">t</a>', "hidden attributes of HTML tags"),
        ("<p data-x='hidden'>t</p>", "<p>t</p>", "hidden attributes of HTML tags"),
        ("[t](http://x.example 'hidden')", "[t](http://x.example)", "titles of links"),
        ("<details hidden-words open>\nt", "<details>\nt", "hidden attributes of HTML tags"),
        ("a <b do as I say>t</b>", "a <b>t</b>", "hidden attributes of HTML tags"),
        ("a <b>t</b do as I say> c", "a <b>t</b> c", "hidden attributes of HTML tags"),
        ("<p>\nt</p 'do' =as I say>", "<p>\nt</p>", "hidden attributes of HTML tags"),
        ("a <do-as-I-say-and-nothing-else> b", "a  b", "long names of HTML tags"),
        ("a [](hidden) b [ ](<u v> 'hidden')", "a  b ", "links without text"),
        ("![a [b [c] d] e](u) z", "[image] z", "images and their alt text"),
        ("![`]` hidden](u) z", "[image] z", "images and their alt text"),
        ("[t](<u> 'hidden')", "[t](<u>)", "titles of links"),
        ("seen\n\n[^1]: do as I say\nand more\n\n    and more", "seen\n", "footnotes that nothing refers to"),
        ("seen[^2]\n\n[^1]: of [^1]\n[^2]: word", "seen[^2]\n\n[^2]: word", "footnotes that nothing refers to"),
        ("a&#xE0049;&#917607;b", "ab", "invisible tag characters"),
        ("a&#8203;b&ZeroWidthSpace;c&shy;", "abc", "zero-width characters"),
        (
            "```mermaid\ngraph TD\n  %% hidden\n  A-->B\n```",
            "```mermaid\ngraph TD\n  A-->B\n```",
            "what a diagram does not draw",
        ),
        (
            "```mermaid\n---\ntitle: seen\nconfig: {x: hidden}\n---\ngraph TD\naccDescr {\nhidden\n}\n"
            'click A "u" "hidden"\n```',
            "```mermaid\n---\ntitle: seen\n---\ngraph TD\n```",
            "what a diagram does not draw",
        ),
        ("seen[^1]\n\n[^1]: seen\n[^1]: hidden", "seen[^1]\n\n[^1]: seen", "footnotes that nothing refers to"),
        (
            "a[^b] c[^do-as-I-say-and-nothing-else]\n\n[^b]: d\n[^do-as-I-say-and-nothing-else]: e",
            "a[^1] c[^2]\n\n[^1]: d\n[^2]: e",
            "labels of footnotes",
        ),
        ("a [&#160;&emsp;\u2800](hidden) b", "a  b", "links without text"),
        ("|a|b|\n|-|-|\n|1|2|hidden|\n|1\\|2|3|", "|a|b|\n|-|-|\n|1|2|\n|1\\|2|3|", "cells beyond a table's columns"),
        ("> a | b\n> -|-\n> 1 | 2 | hidden | too", "> a | b\n> -|-\n> 1 | 2 |", "cells beyond a table's columns"),
        ("<ruby>x<rp>hidden</rp><rt>y</rt></ruby>", "<ruby>x<rt>y</rt></ruby>", "parentheses of ruby text"),
        ("a <template>hidden <b>x</b></template> b", "a  b", "contents of elements that are not shown"),
        ("<SVG width=9><text>hidden</text></SVG >b", "b", "contents of elements that are not shown"),
        ("a<math><svg></svg>hidden</math>b", "ab", "contents of elements that are not shown"),
        ("<svg>1<svg>2</svg>hidden</svg>b", "b", "contents of elements that are not shown"),
        ("<svg>1<svg>hidden</svg>b", "b", "contents of elements that are not shown"),
        ("<ruby>x<rp>hidden</ruby> y", "<ruby>x y", "parentheses of ruby text"),
        ("$\\newcommand*{\\x}[1]{hidden}y$", "$y$", "invisible parts of formulas"),
        ("$\\def\\x#1{hidden {too}}y$", "$y$", "invisible parts of formulas"),
        ("$\\mathchoice{seen}{hidden}{hidden}{hidden}$", "${seen}$", "invisible parts of formulas"),
        ("$\\bbox[hidden]{x}\\unicode[hidden]{x41}$", "${x}{x41}$", "invisible parts of formulas"),
        ("$a\\color{white}{hidden}b$", "$ab$", "invisible parts of formulas"),
        ("$a{\\color[rgb]{.99,1,1} hidden}b$", "$a{}b$", "invisible parts of formulas"),
        ("$\\textcolor{#fefefe}{hidden}b$", "$b$", "invisible parts of formulas"),
        ("```math\nx % hidden\n\\phantom{do {as} I say}y\n```", "```math\nx \ny\n```", "invisible parts of formulas"),
        ("$$\nx % hidden\n$$", "$$\nx \n$$", "invisible parts of formulas"),
        ("$a <!-- hidden --> b$", "$a  b$", "HTML comments"),
        ("a $x\\hphantom{hidden}$", "a $x$", "invisible parts of formulas"),
        ("$x\\llap{seen}$", "$x{seen}$", "invisible parts of formulas"),
        ("$x\\hspace{9999em}y$", "$xy$", "invisible parts of formulas"),
        ("$x\\raise{9999em}{seen}$", "$x{seen}$", "invisible parts of formulas"),
        ("$\\colorbox{black}{\\color{black}seen}$", "${\\color{black}seen}$", "invisible parts of formulas"),
        ("$\\enclose{hidden}[hidden]{x}$", "${x}$", "invisible parts of formulas"),
        ("$\\tiny{seen}$", "${seen}$", "invisible parts of formulas"),
        (f"```\nx{' ' * 200}seen\n```", "```\nx    seen\n```", "text far to the right in code"),
        (f"    x{chr(0xA0) * 200}seen", "    x    seen", "text far to the right in code"),
        ("```py do as I say\nx\n```", "```py\nx\n```", "words after the language of code"),
        ("> ~~~ py {do='as I say'}\n> x\n> ~~~", "> ~~~ py\n> x\n> ~~~", "words after the language of code"),
        ("[//]: # (hidden)\nseen", "seen", "link definitions"),
        ("[hidden words]: http://x.example\n\nseen", "\nseen", "link definitions"),
        ("[a]: x( 'hidden'\n> [b]:\n> y((\n> 'hidden'\n\nseen", "\nseen", "link definitions"),
        ("[a]: x\n[a]: hidden\n\nseen", "\nseen", "link definitions"),
        ("a\u200bb\u2060c\ufeffd", "abcd", "zero-width characters"),
        ("a\u202eb\u2066c", "abc", "characters that change the direction of text"),
        ("a\U000e0049\U000e0067b\U000e007f", "ab", "invisible tag characters"),
        ("a\x00b\x1b[31mc\x7f", "ab[31mc", "control characters"),
        ("a\ufe0f\ufe01\U000e0101b", "ab", "zero-width characters"),
        ("a\U000e0080\U000e0fffb", "ab", "invisible tag characters"),
        ("a\U0001d159\U00013441b\u3164", "ab", "zero-width characters"),
        ("\u0639\u200e\u200f\u200eb", "\u0639b", "characters that change the direction of text"),
        ("\u0645\u200c\u200d\u0645", "\u0645\u0645", "zero-width characters"),
        ("\U0001f3f4\U000e0064\U000e006f\U000e007f", "\U0001f3f4", "invisible tag characters"),
        ("a&#0000008203;b&#x0000200B;", "ab", "zero-width characters"),
        (
            "<div>\na</ hidden>b</1 hidden><! hidden><!- hidden><![ hidden>\n</div>",
            "<div>\nab\n</div>",
            "HTML comments",
        ),
        ("<div>\na <! hidden to the end\n\nx", "<div>\na \n\nx", "HTML comments"),
        ('<a href="do as I say">t</a>', "<a>t</a>", "hidden attributes of HTML tags"),
        ("<a href='javascript:hidden'>t</a>", "<a>t</a>", "hidden attributes of HTML tags"),
        ("<a title=\"href='hidden'\">t</a>", "<a>t</a>", "hidden attributes of HTML tags"),
        ("a <b href='hidden'>t</b>", "a <b>t</b>", "hidden attributes of HTML tags"),
        ("a <bdo dir=rtl>t</bdo>", "a <bdo>t</bdo>", "hidden attributes of HTML tags"),
        ("<p align='center hidden'>t</p>", "<p>t</p>", "hidden attributes of HTML tags"),
        ("a <a href='hidden'> &nbsp;<br></a> b", "a  b", "links without text"),
        ("a [****](hidden) [` `](hidden) [\\\n](hidden) b", "a    b", "links without text"),
        ('[t](http://x.example "\\"hidden")', "[t](http://x.example)", "titles of links"),
        (
            "a <sub><sup><small><sub>hidden *x*</sub>seen</small></sup></sub>",
            "a <sub><sup><small>seen</small></sup></sub>",
            "text too small to be read",
        ),
        (
            "<div><sub><sub><sub><sub>\n\nhidden\n\n    hidden\n\n</sub></sub></sub></sub></div>",
            "<div><sub><sub><sub>\n\n\n\n\n</sub></sub></sub></div>",
            "text too small to be read",
        ),
        (
            "a \\[^1] ``[^1]`` [b](c[^1])\n\n[^1]: hidden",
            "a \\[^1] ``[^1]`` [b](c[^1])\n",
            "footnotes that nothing refers to",
        ),
        ("<p>\n[^1]\n</p>\n\n- [^1]: hidden\n\nb", "<p>\n[^1]\n</p>\n\n\nb", "footnotes that nothing refers to"),
        ("a[^1]\n\n[^1]: b\n\n    <!-- hidden -->", "a[^1]\n\n[^1]: b\n\n    ", "HTML comments"),
        ("a[^1]\n\n[^1]: b\n\n    [x]: # (hidden)\n\nc", "a[^1]\n\n[^1]: b\n\n\nc", "link definitions"),
        (
            "a[^1]\n\n[^1]: |b|\n    |-|\n    |c|hidden|",
            "a[^1]\n\n[^1]: |b|\n    |-|\n    |c|",
            "cells beyond a table's columns",
        ),
        ("1. - |b|\n     |-|\n     |c|hidden|", "1. - |b|\n     |-|\n     |c|", "cells beyond a table's columns"),
        ("$\\color{rgb(255,255,255)}{hidden}b$", "$b$", "invisible parts of formulas"),
        ("$\\eqref{hidden}b$", "$b$", "invisible parts of formulas"),
        (f"$x{'~' * 30}seen$", "$x seen$", "invisible parts of formulas"),
        ("$x\ny\\phantom{hidden}$", "$x\ny$", "invisible parts of formulas"),
        (f"${'x' * 2000}\\phantom{{hidden}}$", f"${'x' * 2000}$", "invisible parts of formulas"),
        ("|a|\n|-|\n|$\\phantom{hidden}x$|", "|a|\n|-|\n|$x$|", "invisible parts of formulas"),
        (f"```\nx{chr(9) * 60}seen\n```", "```\nx    seen\n```", "text far to the right in code"),
        (f"```\nx{' ' * 140}.{' ' * 140}seen\n```", "```\nx    .    seen\n```", "text far to the right in code"),
        (f"<pre>\nx{' ' * 200}seen</pre>", "<pre>\nx    seen</pre>", "text far to the right in code"),
        (
            '```mermaid\ngraph TD; A:::hidden-->B; click A "u" "hidden"\nclass A hidden\n```',
            "```mermaid\ngraph TD; A-->B\n```",
            "what a diagram does not draw",
        ),
        (
            "```mermaid\nsequenceDiagram\nproperties A: {hidden}\nA->>B: <!-- hidden -->seen\n```",
            "```mermaid\nsequenceDiagram\nA->>B: seen\n```",
            "what a diagram does not draw",
        ),
    ],
)
def test_attack_39_what_people_do_not_see_is_stripped_and_flagged(text: str, cleaned: str, flag: str) -> None:
    found = clean(text)
    assert found.text == cleaned
    assert found.flags == (flag,)


@pytest.mark.parametrize(
    "text",
    [
        "plain text with a < b and c > d, x = 'y'",
        "```html\n<!-- code --> <img alt='x'> ![a](b)\n```",
        "~~~\n<!-- code -->\n~~~",
        "    <!-- code -->",
        "- a\n\n  ```\n  <!-- code -->\n  ```",
        "`<!-- code -->` and ``<img alt=`x`>``",
        "```\n<!-- never closed",
        "```\n[//]: # (code)\n```",
        "a <!-- never closed",
        "for (int i = 0; i<n; i++) { a[i] = b; }",
        "List<String> x = new Map<K, V>();",
        "if a<b: print(x=1)\nif c>d: pass",
        "x[0](y) and f(a)[1]",
        "tab\tand\n\nblank lines\n",
        "\u2764\ufe0f \U0001f468\u200d\U0001f469\u200d\U0001f467 1\ufe0f\u20e3 \u00e9 \u4e2d\u6587 \u0639\u0631",
        "- [ ] task\n- [x] done",
        "[text](http://x.example) <https://x.example>",
        "&lt;!-- shown --&gt; &amp; &#65; &#x2764; &nbsp; &#0; &#99999999;",
        "seen[^1]\n\n[^1]: shown",
        "seen[^a]\n\n[^a]: of [^b]\n[^b]: shown, too",
        "```mermaid\ngraph TD\n  A-->B\n```",
        "```tex\n% shown \\phantom{x}\n```",
        "```mermaid\nclassDiagram\n  class Animal\n  Animal --> styled\n```",
        "$\\textcolor{red}{x} + {\\color{#0a0} y}$ and \\color{white}{x}",
        "|a|b|\n|-|-|\n|1|2|\n|1|`\\|`|",
        "[a][1] and x[0][y], `[a][b]`, [^abcdefghijklmnopqrstuvwxyz]",
        "```objective-c\nx\n```",
        "costs $5 and 20% of $10, \\phantom{x}",
        "`[](x) &#8203; $\\phantom{x}$`",
        "auto f = [](int a) { return a; };",
        "<details><summary>s</summary><br /></details>",
        "<details open>\n<summary>s</summary>\n</details>",
        '<div dir="rtl" align=center>\n\nx\n\n</div>',
        '<a href="../docs/a.md#b">t</a> <a href=https://x.example/?a=b>t</a>',
        "usage: git clone <url> <folder> <branch> <depth>",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u0928\u094d\u200d\u0937 \u0d28\u0d4d\u200d",
        "\u05e9\u05dc\u05d5\u05dd \u200f(abc)\u200f \u05e2\u05d5\u05dc\u05dd",
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f \u2714\ufe0e",
        "H<sub>2</sub>O, x<sup>2<sup>n</sup></sup>",
        "costs $5 and\nUS$6, \\phantom{x}",
        "a[^1]\n\n[^1]: b\n\n        <!-- code -->",
        f"```\n id |{' ' * 70}| name\n```",
        "```rust,ignore\nx\n```",
        "```mermaid\nclassDiagram\n  class Bird {\n    +fly()\n  }\n  <<interface>> Bird\n  A[<b>x</b><br/>y]\n```",
    ],
)
def test_what_people_see_is_kept(text: str) -> None:
    assert clean(text) == clean(text).model_copy(update={"text": text, "flags": ()})


def test_labels_that_links_refer_to_are_stripped() -> None:
    found = clean("[seen][do as I say] [seen][]\n\n[do as  I say]: http://x.example\n[seen]: y")
    assert (found.text, found.flags) == ("[seen] [seen][]\n", ("labels of links", "link definitions"))


def test_the_source_of_a_map_is_kept_and_flagged() -> None:
    text = '```geojson\n{"type": "Point", "coordinates": [1, 2], "note": "hidden"}\n```'
    assert clean(text) == clean(text).model_copy(
        update={"text": text, "flags": ("the source of a map or a solid, which was kept",)}
    )


def test_a_sentence_in_names_of_tags_is_flagged() -> None:
    text = "a <do> <as> <i> <say> <and> <nothing> <else> b"
    assert clean(text) == clean(text).model_copy(
        update={"text": text, "flags": ("unknown HTML tags, which were kept",)}
    )


def test_line_ends_are_made_one_kind_without_a_flag() -> None:
    found = clean("a\r\nb\rc\u2028d")
    assert (found.text, found.flags) == ("a\nb\nc\nd", ())


def test_half_a_surrogate_pair_can_be_stored() -> None:
    clean("x\ud800y").text.encode()


INVISIBLE = re.compile("[\u200b\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f\x00-\x08\x0b-\x1f\x7f]")


@settings(max_examples=300)
@given(st.text() | MARKDOWN)
@example("![" * 50)
@example("<!" + "-" * 20 + ">")
def test_cleaned_text_is_clean(text: str) -> None:
    found = clean(text)
    assert not INVISIBLE.search(found.text)
    assert clean(found.text).text == found.text
    found.text.encode()
    if not found.flags:
        assert found.text == re.sub("\r\n?|[\x85\u2028\u2029]", "\n", text)


@settings(max_examples=300)
@given(MARKDOWN)
def test_what_is_left_hides_nothing_when_rendered(text: str) -> None:
    """A second opinion: the whole parser, inline rules and all, finds no image and no comment in the result."""
    for token in GITHUB.parse(clean(text).text):
        assert not (token.type == "html_block" and re.search("<!--.*-->", token.content, re.DOTALL)), token
        for child in token.children or ():
            assert child.type != "image"
            assert not (child.type == "html_inline" and child.content.startswith(("<!", "<?", "<img"))), child
