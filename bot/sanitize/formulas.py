"""What MathJax does not show of a formula. Pure."""

import html
import re

from bot.sanitize.characters import ENTITY

# Of each macro its arguments, one letter each: `h`, hidden; `k`, seen. Arguments in brackets are never seen.
_ARGUMENTS = (
    dict.fromkeys(("phantom", "hphantom", "vphantom", "label", "cssId", "class", "style", "href", "data"), "h")
    | dict.fromkeys(("ref", "eqref"), "h")  # of a label that is nowhere
    | dict.fromkeys(("bbox", "unicode"), "")
    | dict.fromkeys(("llap", "rlap", "clap", "mathllap", "mathrlap", "mathclap", "smash"), "k")  # over or beside others
    # As far away as they say.
    | dict.fromkeys(("kern", "mkern", "hskip", "mskip", "vskip", "hspace", "vspace", "mspace"), "h")
    | dict.fromkeys(("raise", "lower", "moveleft", "moveright", "raisebox"), "h")
    | dict.fromkeys(("tiny", "Tiny", "scriptscriptstyle"), "")
    | dict.fromkeys(("colorbox", "enclose"), "hk")
    | dict.fromkeys(("newcommand", "renewcommand", "providecommand", "DeclareMathOperator"), "hh")
    | dict.fromkeys(("newenvironment", "renewenvironment", "definecolor"), "hhh")
    | {
        "require": "h",
        "tooltip": "h",
        "texttip": "kh",
        "toggle": "k",  # and all up to `\\endtoggle` is seen by whoever clicks
        "mathtip": "kh",
        "mathchoice": "khhh",
        "mmlToken": "hk",
        "fcolorbox": "hhk",
        "let": "hh",
        "Space": "hhh",
    }
)
_DEFINITION = re.compile(r"\s*\\(?:[A-Za-z]+|.)[^{}]{0,100}", re.DOTALL)
_COLOURED = ("color", "textcolor")
_MACRO = re.compile(rf"\\(?P<name>{'|'.join([*_ARGUMENTS, 'def', 'gdef', *_COLOURED])})(?![A-Za-z])")
_COMMENT = re.compile(r"(?<!\\)%[^\n]*")
_COLUMNS = re.compile(r"(\\begin\s*\{(?:array|subarray)\}(?:\s*\[[^\[\]]{0,9}\])?\s*\{)([^{}]*+)(?=\})")
# As far above or below as it says: a hundred of any unit, or ten of one that is a letter's height or more.
_FAR_ROW = re.compile(r"(?<=\\\\)\s*+\[\s*+-?(?:\d{3}|\d\d[\d.]{0,9}\s*+(?:em|ex|cm|in|pc)\b)[^\[\]]{0,20}\]")
_END_TOGGLE = "\\endtoggle"
_SPACES = re.compile(r"(?:(?:\\(?:q?quad|enspace|thinspace|[;:,! ])|~)\s*){20,}")  # as wide as the page
_TOLD = re.compile(  # names of colours that are told from a page's white; all others count as white
    r"(?!aliceblue|light\w*yellow|lightcyan)\w*(?:black|red|green|blue|brown|purple|violet|orange|gr[ae]y|magenta|maroon"
    r"|navy|teal|olive|crimson|indigo|brick|orchid|plum|salmon|coral|tomato|gold|chocolate|sienna|cyan|turquoise|aqua"
    r"|lime|fuchsia|pink|yellow|khaki|tan|peach|apricot|mulberry|melon|mahogany|emerald|sepia|rhodamine)\w*",
    re.IGNORECASE,
)
_HEX = re.compile(r"#[0-9a-f]{3,4}|#?(?:[0-9a-f]{6}|[0-9a-f]{8})", re.IGNORECASE)
_NUMBERS = re.compile(r"[0-9.]{1,8}(?:\s*,\s*[0-9.]{1,8}){0,2}")
_FAINT = 0xE8  # of 255, of each of red, green and blue: not told from a page's white


# What shows its words as they are, and names of macros; and words that follow each other in what is left.
_TEXT = re.compile(
    r"\\(?:text\w*|intertext|[hfm]box|math(?:rm|it|bf|sf|tt)|operatorname|tag)\*?\s*\{[^{}]*+\}|\\[A-Za-z]++"
)
_SENTENCE = re.compile(r"(?<![A-Za-z])[A-Za-z]{2,}+(?:[\s{}\[\]_~-]++[A-Za-z]{2,}+){2,}")


def seen_of_formula(text: str, flags: set[str]) -> str:
    """The formula without comments, definitions, and what is set invisibly or in the page's colour.

    What is no text, but reads like it, is kept and flagged: arguments of environments and of any other macro.
    """
    text = re.sub(ENTITY, _spelt, text, flags=re.IGNORECASE)
    found = _SPACES.sub(" ", _COMMENT.sub("", text) if "\n" in text else text)
    found = _FAR_ROW.sub("", found)
    found = _COLUMNS.sub(lambda columns: columns[1] + re.sub("[^clr|: ]", "", columns[2]), found)
    out: list[str] = []
    at = 0
    while match := _MACRO.search(found, at):
        out.append(found[at : match.start()])
        kept, at = _seen_of_macro(found, match)
        out.append(kept)
    found = "".join(out) + found[at:]
    if found != text:
        flags.add("invisible parts of formulas")
    if _SENTENCE.search(_TEXT.sub("", found)):
        flags.add("words that are no text in a formula, which were kept")
    return found


def _spelt(entity: re.Match[str]) -> str:
    """The character, where it is one that macros are written with."""
    shown = html.unescape(entity[0])
    return shown if re.fullmatch(r"[A-Za-z\\%{}\[\]]", shown) else entity[0]


def _seen_of_macro(text: str, match: re.Match[str]) -> tuple[str, int]:
    """What is kept of the macro with its arguments, and where the rest begins."""
    name, at = match["name"], match.end()
    if name in _COLOURED:
        return _coloured(text, match)
    if name in ("def", "gdef"):
        defined = _DEFINITION.match(text, at)
        return "", _argument(text, defined.end() if defined else at)
    kept = ""
    at += text.startswith("*", at)
    for seen in _ARGUMENTS[name]:
        begin = _bracketed(text, at)
        at = _argument(text, begin)
        kept += text[begin:at] if seen == "k" else ""
    if name == "toggle" and (end := text.find(_END_TOGGLE, at)) >= 0:
        at = end + len(_END_TOGGLE)
    return kept, _bracketed(text, at)


def _coloured(text: str, match: re.Match[str]) -> tuple[str, int]:
    """Without what it sets in the page's colour: its next argument or, of a switch, the rest of the group."""
    model = _bracketed(text, match.end())
    end = _argument(text, model)
    if not _pale(text[model:end].strip(" \t\n{}")):
        return text[match.start() : end], end
    if re.compile(r"\s*\{").match(text, end):
        return "", _argument(text, end)
    depth = 0
    for brace in re.compile(r"\\.|[{}$]", re.DOTALL).finditer(text, end):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth < 0 or brace[0] == "$":
            return "", brace.start()
    return "", len(text)


def _pale(colour: str) -> bool:
    if _HEX.fullmatch(colour):
        digits = colour.removeprefix("#")
        parts = [int(2 * digit, 16) for digit in digits] if len(digits) < 6 else [*bytes.fromhex(digits)]
        return min(parts[:3]) >= _FAINT or (len(parts) > 3 and parts[3] < 255 - _FAINT)
    if "(" in colour:  # of CSS; black on white needs none
        return True
    if _NUMBERS.fullmatch(colour):
        values = [float(number) for number in re.findall(r"[0-9]+\.?[0-9]*|\.[0-9]+", colour)]
        return bool(values) and min(values) * (255 if max(values) <= 1 else 1) >= _FAINT
    return not _TOLD.fullmatch(colour)


def _bracketed(text: str, at: int) -> int:
    """The index past the arguments in brackets that begin at `at`."""
    while found := re.compile(r"\s*+\[[^\[\]]{0,1000}\]").match(text, at):
        at = found.end()
    return at


def _argument(text: str, at: int) -> int:
    """The index past the argument that begins at `at`: a group in braces, a macro, or one character."""
    if not re.compile(r"\s*+\{").match(text, at):
        token = re.compile(r"\s*+(?:\\[A-Za-z]+|\\.|[^\s{}$\\])", re.DOTALL).match(text, at)
        return token.end() if token else at
    depth = 0
    for brace in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, text.index("{", at)):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if not depth:
            return brace.end()
    return len(text)
