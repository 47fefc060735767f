"""The end of a log of CI as text for a prompt: the part in which it failed."""

import re

from bot.sanitize.characters import strip_invisible

_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_STAMP = re.compile(r"^\ufeff?\d{4}-\d{2}-\d{2}T[\d:.]+Z ", re.MULTILINE)  # what Actions begin each line with
_ERROR = "##[error]"  # how they mark where a step failed; what follows only cleans up


def end_of_log(text: str, limit: int) -> str:
    """At most `limit` characters, whole lines, without time stamps and what terminals do not show."""
    text = _STAMP.sub("", _ANSI.sub("", text.replace("\r\n", "\n")))
    at = text.rfind(_ERROR)
    if at >= 0:
        text = text[: text.find("\n", at) if "\n" in text[at:] else len(text)]
    text = strip_invisible(text, set()).strip()
    if len(text) <= limit:
        return text
    return text[-limit:].partition("\n")[2] or text[-limit:]
