"""`devcontainer.json`: comments and trailing commas, image, Dockerfile, commands (https://containers.dev/)."""

import posixpath
import shlex
from collections.abc import Sequence
from typing import Any

from bot.patch.formats import of_json
from bot.recipe.dockerfile import Instructions, read_dockerfile
from bot.recipe.recipe import Layer, Read, Recipe

PLACES = (".devcontainer/devcontainer.json", ".devcontainer.json", "devcontainer.json")
_COMMANDS = ("onCreateCommand", "updateContentCommand", "postCreateCommand")  # in the order in which they run


def without_comments(text: str) -> str:
    """JSON with comments and trailing commas as plain JSON; what is within strings stays."""
    kept: list[str] = []
    at, size = 0, len(text)
    while at < size:
        if text[at] == '"':
            end = at + 1
            while end < size and text[end] != '"':
                end += 2 if text[end] == "\\" else 1
            kept.append(text[at : end + 1])
            at = end + 1
        elif text.startswith("//", at):
            end = text.find("\n", at)
            at = size if end < 0 else end
        elif text.startswith("/*", at):
            end = text.find("*/", at + 2)
            at = size if end < 0 else end + 2
        else:
            if text[at] in "]}":
                while kept and (kept[-1].isspace() or kept[-1] == ","):
                    if kept.pop() == ",":
                        break
            kept.append(text[at])
            at += 1
    return "".join(kept)


def devcontainer(files: Sequence[str], read: Read) -> Recipe | None:
    """What the first `devcontainer.json` asks for; None where there is none. One that can't be read is a note."""
    known = set(files)
    nested = sorted(f for f in files if f.startswith(".devcontainer/") and f.endswith("/devcontainer.json"))
    path = next((place for place in (*PLACES, *nested) if place in known), None)
    if path is None:
        return None
    try:
        data = of_json(without_comments((read(path) or "").lstrip("\ufeff")))
    except ValueError as error:
        return Recipe(notes=(f"{path} is not used: it is not JSON ({str(error)[:200]})",))
    if not isinstance(data, dict):
        return Recipe(notes=(f"{path} is not used: it is not a JSON object",))
    return _of(path, data, read)


def _of(path: str, data: dict[str, Any], read: Read) -> Recipe:
    notes = []
    if features := data.get("features"):
        names = ", ".join(sorted(map(str, features)))[:300] if isinstance(features, dict | list) else ""
        notes.append(f"{path}: features are not supported and were left out ({names}); install them with `setup`")
    if data.get("dockerComposeFile"):
        notes.append(f"{path}: dockerComposeFile is not supported; name an image and a `setup` command in .troop.toml")
    image = data["image"] if isinstance(data.get("image"), str) else ""
    layers: list[Layer] = []
    if dockerfile := _dockerfile(path, data):
        text = read(dockerfile)
        instructions = read_dockerfile(text or "", _context(path, data))
        if text is None:
            instructions = Instructions(problem="it can't be read")
        if instructions.problem:
            notes.append(f"{dockerfile} is not used: {instructions.problem}")
        else:
            image = instructions.image
            if instructions.commands:
                layers.append(_layer("Dockerfile", dockerfile, instructions.commands))
    commands = tuple(line for key in _COMMANDS for line in _lines(data.get(key)))
    if commands:
        layers.append(_layer("devcontainer commands", path, [f"(\n{line}\n)" for line in commands]))
    setup = " && ".join(commands)
    return Recipe(found=f"a development container ({path})", layers=tuple(layers), image=image, setup=setup,
                  notes=tuple(notes))  # fmt: skip


def _layer(name: str, source: str, commands: Sequence[str]) -> Layer:
    return Layer(name=name, source=source, commands=tuple(commands), whole_tree=True)


def _dockerfile(path: str, data: dict[str, Any]) -> str:
    build = data.get("build")
    named = build.get("dockerfile") if isinstance(build, dict) else None
    named = named or data.get("dockerFile")
    return _below(path, named) if isinstance(named, str) and named else ""


def _context(path: str, data: dict[str, Any]) -> str:
    build = data.get("build")
    context = build.get("context") if isinstance(build, dict) else data.get("context")
    return _below(path, context if isinstance(context, str) else ".")


def _below(path: str, name: str) -> str:
    """`name`, which is relative to the folder of `path`, relative to the root: "" or what lies in the repository."""
    joined = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
    return "" if joined == "." or joined.startswith(("../", "/")) else joined


def _lines(command: object) -> tuple[str, ...]:
    """A command in each of its three forms: a shell line, an argv, or an object of named commands."""
    if isinstance(command, str):
        lines: tuple[str, ...] = (command,) if command.strip() else ()
    elif isinstance(command, list):
        lines = (shlex.join(str(word) for word in command),) if command else ()
    elif isinstance(command, dict):
        lines = tuple(line for one in command.values() if not isinstance(one, dict) for line in _lines(one))
    else:
        lines = ()
    for variable in ("${containerWorkspaceFolder}", "${localWorkspaceFolder}"):
        lines = tuple(line.replace(variable, ".") for line in lines)
    return lines
