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
    elif not failure.image:
        parts.append(f"Correct `setup` in `{FILE_NAME}` on the default branch.")
    if failure.image:
        where = "beside it" if failure.setup else f"below `[sandbox]` in `{FILE_NAME}` on the default branch"
        parts.append(
            f"{'Or name' if failure.setup else 'Name'} an image that has it, as {_image_line(failure)} {where}; the "
            f"operator of this server must list {inline(failure.image)} in `TROOP_SANDBOX_IMAGES_ALLOWED`."
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
    if failure.image:
        parts.append(f"to try an image that has it: --image {failure.image}, or in {FILE_NAME} {_image_line(failure)}")
    parts.append(f"or, to use the image as it is: {setup_lines('true').splitlines()[1]}")
    return "\n\n".join(parts)


def _image_line(failure: BuildFailed) -> str:
    return f"`image = {json.dumps(failure.image)}`"


def setup_lines(command: str) -> str:
    """The command in the form of `.troop.toml`: what JSON writes is a string of TOML, too."""
    return f"[sandbox]\nsetup = {json.dumps(command, ensure_ascii=False)}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
