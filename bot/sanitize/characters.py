"""Invisible characters: zero-width, bidirectional, tag and control characters."""

import html.entities
import re

_TAGS = r"\U000E0000-\U000E00FF\U000E01F0-\U000E0FFF"
BIDI = r"\u061C\u200E\u200F\u202A-\u202E\u2066-\u2069"
_ZERO_WIDTH = (
    r"\u00AD\u034F\u115F\u1160\u17B4\u17B5\u180B-\u180F\u200B-\u200D\u2060-\u2065\u206A-\u206F\u3164\uFEFF\uFFA0"
    r"\uFFF0-\uFFFB\U00013430-\U0001343F\U00013441\U00013442\U00016FE4\U0001BCA0-\U0001BCA3\U0001D159\U0001D173-\U0001D17A"
)
_VARIATIONS = r"\uFE00-\uFE0F\U000E0100-\U000E01EF"
CONTROL = r"\x00-\x08\x0B-\x1F\x7F-\x84\x86-\x9F"
_EMOJI = r"[\u00A9\u00AE\u203C-\u3299\U0001F000-\U0001FAFF]"
_WITH_JOINERS = r"[\u0600-\u109F\u1780-\u18AF\uFB50-\uFDFF\uFE70-\uFEFC]"  # Arabic, and the scripts of India and Burma
_RIGHT_TO_LEFT = r"[\u0590-\u08FF\uFB1D-\uFDFF\uFE70-\uFEFC]"
_NATIONS = "|".join("".join(chr(0xE0000 + ord(c)) for c in name) for name in ("gbeng", "gbsct", "gbwls"))

# What changes how a character looks is kept: the joiner and the variation selector of an emoji, the tags of the three
# flags that have some, a joiner in scripts that need it, and a mark beside text from right to left.
_KEPT = (
    rf"(?<=[0-9#*])\uFE0F(?=\u20E3)|(?<={_EMOJI})[\uFE0E\uFE0F]|(?:(?<={_EMOJI})|(?<=\uFE0F))\u200D(?={_EMOJI})"
    rf"|(?<=\U0001F3F4)(?:{_NATIONS})\U000E007F|(?<={_WITH_JOINERS})[\u200C\u200D](?![{_ZERO_WIDTH}])"
    rf"|(?:(?<={_RIGHT_TO_LEFT})|(?<={_RIGHT_TO_LEFT}\W))[\u200E\u200F](?![{BIDI}{_ZERO_WIDTH}])"
    rf"|[\u200E\u200F](?=[ -/]?{_RIGHT_TO_LEFT})"
)
_INVISIBLE = re.compile(
    rf"(?P<keep>{_KEPT})|(?P<tags>[{_TAGS}]+)|(?P<bidi>[{BIDI}]+)|(?P<zero>[{_ZERO_WIDTH}{_VARIATIONS}]+)"
    rf"|(?P<control>[{CONTROL}]+)"
)
_WORDS = {
    "tags": "invisible tag characters",
    "bidi": "characters that change the direction of text",
    "zero": "zero-width characters",
    "control": "control characters",
}


def strip_invisible(text: str, flags: set[str]) -> str:
    """The text without invisible characters and with line feeds only; adds to `flags`, in words, what was removed."""

    def replace(match: re.Match[str]) -> str:
        if match.lastgroup == "keep":
            return match[0]
        flags.add(_WORDS[match.lastgroup or ""])
        return ""

    text = re.sub("\r\n?|[\x85\u2028\u2029]", "\n", text)
    # A lone surrogate can't be stored as UTF-8.
    return _INVISIBLE.sub(replace, text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


_OBEYED = re.compile(rf"[{CONTROL}{BIDI}]")


def visible(text: str) -> str:
    """The text with what a terminal or a log would obey shown as escapes: control characters but tab and line feed, and
    those that change the direction of text.
    """
    text = text.replace("\r\n", "\n")
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


ENTITY = r"&(?:#[0-9]{1,12}|#x[0-9a-f]{1,12}|[a-z][a-z0-9]{1,30});"

LAX_ENTITY = r"&(?:#[0-9]{1,12};?|#x[0-9a-f]{1,12};?|shy;?|[a-z][a-z0-9]{1,30};)"  # in HTML


def strip_entity(entity: str, flags: set[str]) -> str:
    """The entity, or "" if it stands for an invisible character."""
    name = entity[1:].removesuffix(";")
    if name.startswith("#"):
        number = int(name[2:], 16) if name[1] in "xX" else int(name[1:])
        shown = chr(number) if 0 < number < 0x110000 and not 0xD800 <= number < 0xE000 else ""
    else:
        shown = html.entities.html5.get(f"{name};", "")
    if not shown or shown in "\r\x85\u2028\u2029":
        return entity
    return entity if strip_invisible(shown, flags) else ""
