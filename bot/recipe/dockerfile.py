"""The part of a Dockerfile that Troop carries out itself: one stage of FROM, RUN, ENV, ARG, COPY and WORKDIR.

Docker's own builder would give each RUN the network of the host's containers and capabilities that a build under
Troop does not have, so the instructions become shell commands of an ordinary layer.
"""

import re
import shlex

from bot.patch.formats import of_json
from bot.records import Record


class Instructions(Record):
    """`problem`: why the file is not carried out, for people."""

    image: str = ""
    commands: tuple[str, ...] = ()
    problem: str = ""


_IGNORED = frozenset(
    ("CMD", "ENTRYPOINT", "EXPOSE", "LABEL", "MAINTAINER", "HEALTHCHECK", "STOPSIGNAL", "USER", "VOLUME", "ONBUILD")
)
_HERE = '"$PWD"'


def read_dockerfile(text: str, context: str) -> Instructions:
    """`context`: the folder that COPY reads from, relative to the root."""
    image, commands = "", [f"root={_HERE}"]
    for word, rest in _instructions(text):
        if word == "FROM":
            if image:
                return Instructions(problem="it has several stages")
            image = next((part for part in rest.split() if not part.startswith("--")), "")
            if "$" in image:
                return Instructions(problem="its image is named by a build argument")
        elif word == "RUN":
            rest = re.sub(r"^(--\S+\s+)+", "", rest)
            if rest.startswith("<<"):
                return Instructions(problem="RUN with a here-document is not supported")
            commands.append(_run(rest))
        elif word in ("ENV", "ARG"):
            commands += _assignments(word, rest)
        elif word == "WORKDIR":
            commands.append(f"mkdir -p {rest} && cd {rest}")
        elif word in ("COPY", "ADD"):
            if "--from" in rest or "://" in rest:
                return Instructions(problem=f"{word} from elsewhere is not supported")
            commands.append(_copy(rest, context))
        elif word == "SHELL":
            return Instructions(problem="SHELL is not supported")
        elif word not in _IGNORED:
            return Instructions(problem=f"{word[:20]} is not known")
    if not image:
        return Instructions(problem="it has no FROM")
    # Not one command alone, since WORKDIR and ENV are for those behind them.
    return Instructions(image=image, commands=tuple(commands) if len(commands) > 1 else ())


def _instructions(text: str) -> list[tuple[str, str]]:
    lines = [line for line in text.lstrip("\ufeff").splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\[ \t]*\n", " ", "\n".join(lines))
    found = []
    for line in joined.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word:
            found.append((word.upper(), rest.strip()))
    return found


def _run(rest: str) -> str:
    if rest.startswith("["):
        try:
            return shlex.join(str(word) for word in of_json(rest))
        except ValueError:
            pass
    return f"( {rest} )"


def _assignments(word: str, rest: str) -> list[str]:
    if word == "ENV" and "=" not in rest.split(" ", 1)[0]:
        name, _, value = rest.partition(" ")
        return [f"export {name}={shlex.quote(value.strip())}"]
    found = re.findall(r"""(?<!\w)([A-Za-z_]\w*+)=((?:"[^"]*"|'[^']*'|\\.|[^\s"'])*)""", rest)
    return [f"export {name}={value}" for name, value in found]


def _copy(rest: str, context: str) -> str:
    words = [word for word in rest.split() if not word.startswith("--")]
    if rest.lstrip().startswith("["):
        try:
            words = [str(word) for word in of_json(rest)]
        except ValueError:
            words = []
    if len(words) < 2:
        return "true"
    *sources, target = words
    start = f"{context}/" if context else ""
    # `COPY folder .` copies what is in the folder.
    copied = " ".join(f'"$root"/{start}{source.lstrip("/")}' for source in sources)
    return (
        f'for source in {copied}; do if [ -d "$source" ]; then mkdir -p {target} && cp -R "$source"/. {target}/; '
        f'else mkdir -p "$(dirname {target}x)" && cp "$source" {target}; fi; done'
    )
