"""Deno: deno.json with its lock, and what the tests import by names in place (`npm:`, `jsr:`, `https:`)."""

import re
import shlex
from collections.abc import Sequence

from bot.recipe.recipe import Layer, Part, folders_with, sources_of

_CONFIGS = ("deno.json", "deno.jsonc", "deno.lock")
_TEST = re.compile(r"(?:^|[/._])test\.(?:[cm]?[jt]s|[jt]sx)$")
_MOST = 200  # tests whose imports are fetched


def deno(files: Sequence[str]) -> Part | None:
    """None where no file is Deno's."""
    folders = folders_with(files, _CONFIGS)
    if not folders:
        return None
    known = frozenset(files)
    layers = [_layer(folder, files, known) for folder in folders]
    setup = " && ".join(layer.commands[1] for layer in layers)
    return Part(language="Deno", sources=sources_of(layers), layers=tuple(layers),
                setup=f"npm install -g deno@2 && {setup}")  # fmt: skip


def _layer(folder: str, files: Sequence[str], known: frozenset[str]) -> Layer:
    manifests = [folder + name for name in (*_CONFIGS, "package.json") if folder + name in known]
    at = f"cd {shlex.quote(folder)} && " if folder else ""
    frozen = " --frozen" if f"{folder}deno.lock" in known else ""
    commands = ["command -v deno >/dev/null 2>&1 || npm install -g deno@2", f"{at}deno install{frozen}"]
    tests = [path.removeprefix(folder) for path in files if path.startswith(folder) and _TEST.search(path)]
    if tests:
        # Of one test, fetched or not, the others do not hang.
        words = shlex.join(f"./{path}" for path in tests[:_MOST])
        commands.append(f"deno install{frozen} --entrypoint {words} || true")  # in the same folder
    return Layer(name="dependencies", source=", ".join(manifests), commands=tuple(commands), keyed_by=tuple(manifests))
