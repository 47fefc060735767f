"""Texts in the encoding of their file. Pure.

A byte order mark of UTF-16 or UTF-32 decides; it stays the text's first character, as that of UTF-8 does. Else UTF-8
comes first. A file that isn't UTF-8 may name its encoding in its first lines, as Python, Emacs, Vim, XML and HTML
do; else it is taken for Windows-1252 or Latin-1, if it looks like text.
"""

import codecs
import re
import unicodedata

UTF_8 = "utf-8"
_DECLARED = re.compile(rb"(?:coding|charset|encoding)[ \t]*[:=][ \t]*[\"']?([-\w.]{2,40})")
_COOKIE = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]{2,40})", re.MULTILINE)  # PEP 263
_EIGHT_BIT = re.compile(  # encodings of files; `codecs` knows others, such as rot13
    r"(iso-?8859|latin|windows|cp|koi8|mac|euc|gb|big5|shift|sjis|johab|tis|kz1048|ptcp).*", re.IGNORECASE
)
_CONTROL = bytes([*range(9), *range(14, 32), 127])
_HIGH = bytes(range(128, 160))  # punctuation in Windows-1252, control characters in Latin-1
_HEAD = 1024  # bytes in which an encoding is declared
_WIDE = (  # that of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NO_TEXT = frozenset({"Cc", "Cn", "Co", "Cs"})  # categories of characters that texts hold few of


def decoded(raw: bytes) -> tuple[str, str] | None:
    """The text and its encoding, which gives back the same bytes; None if the file is binary."""
    for mark, wide in _WIDE:
        if raw.startswith(mark):
            return _marked(raw, wide)
    if b"\0" in raw:
        return None
    cookie = _named(_COOKIE.search(b"\n".join(raw[:_HEAD].split(b"\n")[:2])))
    declared = cookie or _named(_DECLARED.search(b"\n".join(raw[:_HEAD].split(b"\n")[:5])))
    # Of a file in ASCII, the declaration tells how what is added is read.
    candidates = [*cookie, UTF_8] if raw.isascii() else [UTF_8, *declared]
    head = raw[:8192]
    control, high = (len(head) - len(head.translate(None, those)) for those in (_CONTROL, _HIGH))
    if control * 50 < len(head):
        candidates += ["cp1252"] * (0 < high * 4 < len(head))
        candidates += ["iso8859-1"] * ((control + high) * 50 < len(head))
    for encoding in candidates:
        try:
            text = raw.decode(encoding)
            if text.encode(encoding) == raw:
                return text, encoding
        except UnicodeError:
            continue
    return None


def _marked(raw: bytes, encoding: str) -> tuple[str, str] | None:
    """The text of bytes that begin with the encoding's byte order mark, and the encoding."""
    try:
        text = raw.decode(encoding)
        same = text.encode(encoding) == raw
    except UnicodeError:
        return None
    head = text[:8192]
    odd = sum(unicodedata.category(character) in _NO_TEXT and not character.isspace() for character in head)
    return (text, encoding) if same and "\0" not in text and odd * 50 < len(head) else None


def _named(declaration: re.Match[bytes] | None) -> list[str]:
    """The encoding that is declared, as `codecs` names it, if it is one."""
    name = declaration[1].decode("ascii", "replace") if declaration else ""
    if not _EIGHT_BIT.fullmatch(name):
        return []
    try:
        return [codecs.lookup(name).name]
    except LookupError:
        return []


def unencodable(text: str, encoding: str) -> str:
    """The first character of the text that the encoding has no bytes for; "" if there is none."""
    try:
        text.encode(encoding, "surrogateescape")
    except UnicodeEncodeError as error:
        return text[error.start]
    return ""
