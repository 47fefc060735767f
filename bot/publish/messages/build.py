"""A repository whose image can't be built: what failed, the end of the log, and what to try."""

import json

from bot.errors import BuildFailed
from bot.publish.messages.words import cut, one_line
from bot.repo_config import FILE_NAME
from bot.sanitize import fence, inline


def build_failed(failure: BuildFailed) -> str:
    """The status comment. The log and the causes are a program's words."""
    why = f" {cut(one_line(failure.why), 500).rstrip('.')}." if failure.why else ""
    parts = [
        f"**Failed**: the image that this repository's tests run in can't be built. "
        f"{_sentence(cut(one_line(failure.what), 500))}{why}"
    ]
    if failure.log:
        parts.append(f"The end of the log:\n\n{fence(failure.log, 'text')}")
    if failure.setup:
        line = fence(setup_lines(failure.setup), "toml")
        parts.append(f"To try in `{FILE_NAME}` on the default branch, with what else the build needs:\n\n{line}")
    else:
        parts.append(f"Correct `setup` in `{FILE_NAME}` on the default branch.")
    if failure.image:
        parts.append(
            f"Or name an image that has it, as `image = {json.dumps(failure.image)}` beside it; the operator of this "
            f"server must list {inline(failure.image)} in `TROOP_SANDBOX_IMAGES_ALLOWED`."
        )
    parts.append(
        '`setup = "true"` uses the image as it is. Nothing was changed in the repository. `/troop retry` tries again.'
    )
    return "\n\n".join(parts)


def told_at_console(failure: BuildFailed) -> str:
    """The log and what to try, beside the error's own message."""
    parts = [failure.log] if failure.log else []
    if failure.setup:
        parts.append(f"to try in {FILE_NAME}, with what else the build needs:\n{setup_lines(failure.setup)}")
    parts.append(f"or, to use the image as it is: {setup_lines('true').splitlines()[1]}")
    return "\n\n".join(parts)


def setup_lines(command: str) -> str:
    """The command in the form of `.troop.toml`: what JSON writes is a string of TOML, too."""
    return f"[sandbox]\nsetup = {json.dumps(command, ensure_ascii=False)}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
