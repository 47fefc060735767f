"""Removes from an issue what its readers on GitHub don't see, before a prompt shows it to a model."""

import html
import re
from collections.abc import Collection, Mapping

from markdown_it.common.utils import normalizeReference

from bot.records import Issue, Record
from bot.sanitize.blocks import lines_of, parsed, segments_of, too_deep
from bot.sanitize.characters import ENTITY, LAX_ENTITY, strip_entity, strip_invisible
from bot.sanitize.code_blocks import languages_of, seen_of_code
from bot.sanitize.footnotes import Footnotes
from bot.sanitize.formulas import seen_of_formula
from bot.sanitize.gaps import brought_up, without_gaps
from bot.sanitize.links import says_something
from bot.sanitize.tables import brought_near, seen_of_table
from bot.sanitize.tags import ELEMENTS, Addresses, Tags, address_of, brackets


class Cleaned(Record):
    """The visible text, and in words what was removed."""

    text: str
    flags: tuple[str, ...] = ()


# The first alternative that matches wins, as in Markdown: an escape, a code span, then what is removed.
_SPAN = r"(?P<escape>\\[!-/:-@\[-`{-~])|(?P<code>(?<!`)(?P<ticks>`+)(?!`))|"
# Repetitions are bounded, so that the search takes linear time on any text.
_IMAGE = r"(?P<image>!(?=\[))|(?P<empty>(?<!!)\[(?=(?:[\s\u2800*_~`\\]|&#?\w{1,31};|<[^<>\n]{0,200}>){0,50}\]\())"
_LABELS = r"(?P<label>(?<=(?<!\\)\])\[(?P<name>(?:[^\[\]\\]|\\.){1,999})\])|\[\^(?P<note>[^\]\s]{1,999})\]|"
_TITLE = r"(?:\"(?:[^\"\\]|\\.){0,2000}\"|'(?:[^'\\]|\\.){0,2000}'|\((?:[^()\\]|\\.){0,2000}\))"
_TARGET = re.compile(
    r"\((?:[^()\n]{0,2000}(?:\([^()\n]{0,500}\)[^()\n]{0,2000}){0,20}|\s*+<[^<>\n]{0,2000}>\s*+"
    rf"(?:{_TITLE}\s*+)?)\)|\[[^\]]{{0,500}}\]"
)
_EMPTY_TARGET = re.compile(
    r"\(\s{0,20}(?:<[^<>\n]{0,2000}>|[^\s()<>]{0,2000}(?:\([^\s()]{0,2000}\)[^\s()]{0,2000}){0,20})"
    rf"(?:\s{{1,20}}{_TITLE})?\s{{0,20}}\)"
)
_HIDDEN = (
    r"|(?P<picture></?(?:picture|source|video|audio|img)\b)"
    r"|(?P<rp><rp\b)"
    r"|<(?P<foreign>template|noscript|svg|math)\b"
    r"|(?P<title>(?<=\]\()(?P<url><[^<>\n]{0,2000}>|[^\s()<>]{0,2000})[ \t\n]+"
    rf"{_TITLE}[ \t\n]*(?=\)))"
    r"|(?P<tag></?[A-Za-z])"
    rf"|(?P<entity>{ENTITY})"
)
_FORMULA = r"(?:\\.|[^$\\])++"
_MATH = rf"(?P<math>(?<!\\)\$\${_FORMULA}\$\$|(?<!\\)\$(?=[^\s$]){_FORMULA}(?<=\S)\$(?!\d))|"
_ATTRIBUTES = r"""(?:[^<>"']|"[^"]{0,2000}"|'[^']{0,2000}'){0,200}"""
_COMMENT = r"|(?P<comment><!--|<\?|<![A-Za-z]|<!\[CDATA\["
_PATTERNS = {
    kind: re.compile(pattern, re.DOTALL | re.IGNORECASE)
    for kind, pattern in {
        "inline": _SPAN + _MATH + _LABELS + _IMAGE + _COMMENT + ")" + _HIDDEN,
        "table": _MATH + _IMAGE + _COMMENT + ")" + _HIDDEN,
        # Browsers take more for comments and for entities.
        "html": _MATH + _IMAGE + _COMMENT + "|<!|</(?![A-Za-z]))" + _HIDDEN.replace(ENTITY, LAX_ENTITY),
    }.items()
}
_TINY = "text too small to be read"
_LONGEST_NAME = 20  # characters of a tag's name; HTML's longest has ten
_LONGEST_LABEL = 20  # characters of a footnote's, of which GitHub shows a number
_ENDS = {"<!--": "-->", "<?": "?>", "<![cdata[": "]]>"}
_SMALL = ("sub", "sup", "small")
_SMALLEST = 3  # such tags within each other that can still be read
_EMPTY = {
    name: re.compile(
        rf"((?:[\s\u2800]|&#?\w{{1,31}};|<(?!img|picture|video|/?{name}\b)/?[a-z][^<>]{{0,200}}>){{0,50}})</{name}\s*>",
        re.IGNORECASE,
    )
    for name in ("a", "summary")
}
_PLAIN = (  # attributes that hide no word
    r"(?:\s+(?:open|align=[\"']?(?:left|center|right)[\"']?|dir=[\"']?(?:rtl|ltr|auto)[\"']?"
    r"|(?:width|height|colspan|rowspan|start)=[\"']?\d{1,4}(?:px|%)?[\"']?))*"
)
_MANY = 5  # names that nobody sees, of tags, footnotes or languages, which make a sentence; a usage has fewer


def clean(text: str) -> Cleaned:
    """Remove what is hidden from whoever reads the rendered issue; of code, only what GitHub does not show is.

    Removed: HTML comments and declarations, pictures with their alt text, titles and other hidden attributes, long
    names of tags, links without text, link definitions and their labels, footnotes that nothing refers to, what
    diagrams don't draw, invisible parts of formulas, cells beyond a table's columns, templates and drawings, words
    after the language of code, and zero-width, bidirectional, tag and control characters, written as such or as
    entities. Idempotent in its text.
    """
    flags: set[str] = set()
    for _ in range(8):  # a removal may join text that is hidden in turn; a pass or two are enough for most
        before = text
        text = _clean_once(strip_invisible(text, flags), flags)
        if text == before:
            break
    if says_something(text):
        flags.add("words in addresses of links, which were kept")
    return Cleaned(text=text, flags=tuple(sorted(flags)))


def clean_issue(title: str, body: str, *, number: int = 0, author: str = "", url: str = "") -> Issue:
    """An issue as prompts may hold it: title and body cleaned, the title on one line.

    GitHub shows all of a title but invisible characters: it is no Markdown.
    """
    flags: set[str] = set()
    shown, cleaned = strip_invisible(title, flags), clean(body)
    return Issue(
        title=" ".join(shown.split()),
        body=cleaned.text,
        number=number,
        author=author,
        url=url,
        flags=tuple(sorted({*flags, *cleaned.flags})),
    )


def _clean_once(text: str, flags: set[str]) -> str:
    lines = text.split("\n")
    tokens, env = parsed(text)
    segments = segments_of(tokens, len(lines))
    footnotes = Footnotes.of(lines, lines_of("code", segments), lines_of("html", segments))
    if footnotes.labels:  # what is in them is parsed only now
        tokens, env = parsed("\n".join(footnotes.flat))
        segments = segments_of(tokens, len(lines))
    out: list[str] = []
    done = 0
    definitions = [*env.get("references", {}).values(), *env.get("duplicate_refs", [])]
    hidden_lines = {
        "link definitions": {n for one in definitions for n in range(*one["map"])} - footnotes.hidden,
        "footnotes that nothing refers to": footnotes.hidden,
        "text that is nested too deep to be read": too_deep(tokens),
    }
    flags.update(name for name, numbers in hidden_lines.items() if numbers)
    hidden = set().union(*hidden_lines.values())
    fences = {t.map[0]: t for t in tokens if t.type == "fence" and t.map}
    document = _Document(env.get("references", {}), footnotes.labels)
    for start, end, kind in segments:
        start = max(start, done)
        if start >= end:
            continue
        done = end
        part = [line for n, line in enumerate(lines[start:end], start) if n not in hidden]
        if not part:
            continue
        if kind == "code" and document.too_small:
            flags.add(_TINY)
        elif kind == "code":
            info = fences[start].info if start in fences else None
            document.languages.update(languages_of(info))
            out.append("\n".join(seen_of_code(part, info, flags)))
        else:
            if kind == "table":
                part = seen_of_table(part, flags)
            elif kind == "html":
                part = without_gaps(brought_near(part, flags), flags)
            out.append(_Part("\n".join(part), kind, flags, document).cleaned())
    if len(document.languages) >= _MANY:
        flags.add("many languages of code, which were kept")
    return brought_up("\n".join(out), flags)


class _Document:
    """What GitHub does not show of the text, labels that links and footnotes refer to and names of tags, and how many
    tags are open each of which makes text smaller."""

    def __init__(self, links: Collection[str], footnotes: tuple[str, ...]) -> None:
        self.links = links
        self.footnotes: Mapping[str, int] = {label: number for number, label in enumerate(footnotes, 1)}
        words = [label for label in footnotes if not label.isdigit()]
        self.numbered = len(words) >= _MANY or any(len(label) > _LONGEST_LABEL for label in words)
        self.unknown: set[str] = set()  # names of tags that HTML does not have
        self.languages: set[str] = set()  # of code blocks, the usual ones left out
        self._small = 0

    @property
    def too_small(self) -> bool:
        return self._small > _SMALLEST

    def open(self) -> bool:
        """Whether what follows can't be read any more."""
        self._small += 1
        return self.too_small

    def close(self) -> bool:
        """Whether what came before could not be read."""
        was_too_small = self.too_small
        self._small = max(0, self._small - 1)
        return was_too_small


class _Part:
    """One block that is not code. In an HTML block, backticks have no meaning, and an open comment hides the rest.
    So they have in a table, where the borders of cells end code spans.
    """

    def __init__(self, text: str, kind: str, flags: set[str], document: _Document) -> None:
        self._text, self._flags, self._document = text, flags, document
        self._pattern = _PATTERNS.get(kind, _PATTERNS["inline"])
        self._in_html = in_html = kind in ("html", "table")
        self._missing: set[str] = set()  # end markers that do not occur any more: they are searched for once
        self._tags = Tags(text, in_html=in_html)
        self._addresses = Addresses(text)
        self._pairs = brackets(text, self._addresses, in_html=in_html) if "[" in text else {}

    def cleaned(self) -> str:
        out: list[str] = []
        at = 0
        while match := self._pattern.search(self._text, at):
            out.append(self._read(self._text[at : match.start()]))
            kept, at = self._replace(match)
            out.append(self._read(kept))
        return "".join(out) + self._read(self._text[at:])

    def _read(self, text: str) -> str:
        """The text, if it is not too small to be read."""
        if not (self._document.too_small and text):
            return text
        self._flags.add(_TINY)
        return ""

    def _replace(self, match: re.Match[str]) -> tuple[str, int]:
        """What is kept of the match, and where the search goes on."""
        groups = match.groupdict()
        if (groups.get("escape") or groups.get("code")) and match.start() in self._addresses:
            return match[0][:1], match.start() + 1
        if groups.get("escape"):
            return match[0], match.end()
        if groups.get("code"):
            return self._code(match)
        if groups.get("math"):
            seen = seen_of_formula(match[0], self._flags)
            # A formula may hide other things as well; those of a changed one are found in the next pass.
            return ("$", match.start() + 1) if seen == match[0] else (seen, match.end())
        if groups.get("label") or groups.get("note"):
            return self._label(match), match.end()
        if groups["rp"]:
            return self._unseen_ruby(match)
        if groups["foreign"]:
            return self._foreign(match)
        if groups["image"]:
            return self._image(match)
        if groups["empty"]:
            return self._empty(match)
        if groups["comment"]:
            return self._comment(match)
        if opening := groups["picture"]:
            self._flags.add("images and their alt text")
            shown = "[image]" if opening[1] != "/" and "source" not in opening.lower() else ""
            return shown, _picture_end(self._text, match.start(), opening.lower())
        if groups["tag"]:
            return self._tag(match)
        if groups["entity"]:
            return strip_entity(match[0], self._flags), match.end()
        self._flags.add("titles of links")
        return groups["url"] or "", match.end()

    def _code(self, match: re.Match[str]) -> tuple[str, int]:
        ticks = match["ticks"]
        close = None
        if ticks not in self._missing:
            close = re.compile(rf"(?<!`){ticks}(?!`)").search(self._text, match.end())
            if close is None:
                self._missing.add(ticks)
        stop = close.end() if close else match.end()
        return self._text[match.start() : stop], stop

    def _label(self, match: re.Match[str]) -> str:
        if match["label"]:
            if normalizeReference(match["name"]) not in self._document.links:
                return match[0]
            self._flags.add("labels of links")
            return ""
        number = self._document.footnotes.get(match["note"].casefold())
        if number is None or not self._document.numbered:
            return match[0]
        self._flags.add("labels of footnotes")
        return f"[^{number}]"

    def _unseen_ruby(self, match: re.Match[str]) -> tuple[str, int]:
        """What stands for the brackets around a ruby text where a browser can't show one."""
        self._flags.add("parentheses of ruby text")
        close = re.compile(r"</r(?:p|uby)\s*>", re.IGNORECASE).search(self._text, match.end())
        return "", close.end() if close else len(self._text)

    def _foreign(self, match: re.Match[str]) -> tuple[str, int]:
        """An element that browsers don't show, or draw by rules of their own, and none of Markdown's: with all that is
        in it, if it is closed."""
        name = match["foreign"].lower()
        depth, end = 1, 0
        if name not in self._missing:
            for tag in re.compile(rf"<(/?){name}\b[^<>]{{0,2000}}>", re.IGNORECASE).finditer(self._text, match.end()):
                depth += -1 if tag[1] else 1
                end = tag.end() if tag[1] else end
                if not depth:
                    break
        if not end:
            self._missing.add(name)
            if name == "template":
                self._flags.add("an open template, which was kept")
            return self._tag(match)
        self._flags.add("contents of elements that are not shown")
        return "", end

    def _image(self, match: re.Match[str]) -> tuple[str, int]:
        close = self._pairs.get(match.end())
        if close is None:
            return match[0], match.end()
        target = _TARGET.match(self._text, close + 1)
        label = normalizeReference(self._text[match.end() + 1 : close])
        if self._text[close + 1 : close + 2] not in ("(", "[") and label not in self._document.links:
            return match[0], match.end()  # text, `vec![1, 2]` for one
        self._flags.add("images and their alt text")
        return "[image]", target.end() if target else close + 1

    def _empty(self, match: re.Match[str]) -> tuple[str, int]:
        close = self._pairs.get(match.start())
        target = None if close is None else _EMPTY_TARGET.match(self._text, close + 1)
        words = html.unescape(re.sub(r"<[^<>]*>|[*_~`]{2,}|`\s+`|\\\n", "", self._text[match.end() : close]))
        if target is None or not _is_blank(words):
            return match[0], match.end()
        self._flags.add("links without text")
        return "", target.end()

    def _comment(self, match: re.Match[str]) -> tuple[str, int]:
        opening = match["comment"]
        ending = _ENDS.get(opening.lower(), ">")
        found = -1
        if ending not in self._missing:
            found = self._text.find(ending, match.end() - (2 if opening == "<!--" else 0))
        if found < 0:
            self._missing.add(ending)
            if not self._in_html:
                return match[0], match.end()  # an open comment is shown by GitHub
        self._flags.add("HTML comments")
        return "", len(self._text) if found < 0 else found + len(ending)

    def _tag(self, match: re.Match[str]) -> tuple[str, int]:
        found = self._tags.name_and_end(match.start())
        if found is None:
            return match[0], match.end()
        name, end = found
        tag = self._text[match.start() : end]
        if len(name) > _LONGEST_NAME:
            self._flags.add("long names of HTML tags")
            return "", end
        slash = "/" if tag[1] == "/" else ""
        if name.lower() in _SMALL and (self._document.close() if slash else self._document.open()):
            return "", end
        if name.lower() in _EMPTY and not slash:
            empty = _EMPTY[name.lower()].match(self._text, end)
            if empty and _is_blank(html.unescape(re.sub(r"<[^<>]*>", "", empty[1]))):
                if name.lower() == "a":
                    self._flags.add("links without text")
                    return "", empty.end()
                self._flags.add("a fold without a title, which was kept")
        self._name(name.lower())
        link = address_of(tag) if name.lower() == "a" and not slash else ""
        bare = f"<{slash}{name} {link}>" if link else f"<{slash}{name}>"
        if re.fullmatch(rf"<{slash}{re.escape(name)}{'' if name.lower() == 'bdo' else _PLAIN}\s*/?>", tag):
            return tag, end
        if bare != tag:
            self._flags.add("hidden attributes of HTML tags")
        return bare, end

    def _name(self, name: str) -> None:
        """Notice tags of which the name is what hides, or all that is in them."""
        if name == "script":
            self._flags.add("a script, which was kept")
        if name not in ELEMENTS:
            self._document.unknown.add(name)
            if len(self._document.unknown) >= _MANY:
                self._flags.add("unknown HTML tags, which were kept")


def _is_blank(words: str) -> bool:
    return not words.strip().strip("\u2800").strip()


def _picture_end(text: str, start: int, opening: str) -> int:
    """Where `<picture>...</picture>`, or the tag alone, ends."""
    name = opening.strip("</")
    if name in ("picture", "video", "audio") and opening[1] != "/":
        close = re.compile(rf"</{name}\s*>", re.IGNORECASE).search(text, start, start + 20_000)
        if close:
            return close.end()
    tag = re.compile(rf"<{_ATTRIBUTES}>", re.DOTALL).match(text, start)
    if tag:
        return tag.end()
    line = text.find("\n", start)
    return len(text) if line < 0 else line
