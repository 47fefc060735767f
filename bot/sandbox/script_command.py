"""How a test script is started: by the repository's `scripts`, else by its ending, else by its shebang."""

import itertools
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from bot.recipe.ci import django_script
from bot.records import Test

# In a script's text: its own path, which the sandbox knows, and how paths of files of ours begin.
PLACE, BESIDE = "troop:script", "troop:beside/"
_KNOWN: dict[str, tuple[str, ...]] = {
    ".py": ("python3", "{script}"),
    ".sh": ("sh", "{script}"),
    ".bash": ("bash", "{script}"),
    ".js": ("node", "{script}"),
    ".mjs": ("node", "{script}"),
    ".cjs": ("node", "{script}"),
    ".ts": ("npx", "--no-install", "tsx", "{script}"),
    ".mts": ("node", "{script}"),  # which strips the types
    ".cts": ("node", "{script}"),
    ".go": ("go", "run", "{script}"),
    ".rb": ("ruby", "{script}"),
    ".pl": ("perl", "{script}"),
    ".php": ("php", "-d", "zend.assertions=1", "-d", "assert.exception=1", "{script}"),
    ".lua": ("lua", "{script}"),
    ".r": ("Rscript", "{script}"),
    ".jl": ("julia", "{script}"),
    ".tcl": ("tclsh", "{script}"),
    ".exs": ("elixir", "{script}"),
}
# What every test finds in its environment, beside folders.
ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONUNBUFFERED": "1",  # else what is printed last comes after the traceback
    # Tests have no network: who is asked for a package that is not there says so at once, and does not wait for it.
    "npm_config_offline": "true",
    "CARGO_NET_OFFLINE": "true",
    "COMPOSER_DISABLE_NETWORK": "1",
    "UV_OFFLINE": "1",
    "PIP_RETRIES": "0",
}
_PYTHON_OPTION = re.compile(r"-[bBdEIPqsSuv]+|-[XW][^-]\S*|(?P<value>-[XW])")
# Not what makes it run something else than the script.
_NODE_OPTION = re.compile(
    r"--(?!test\b|eval|print|check|interactive|watch|run|help|version|v8-options|build)\w[\w-]*(?:=.*)?"
)
_INTERPRETERS = (
    *("sh", "bash", "dash", "ash", "ksh", "mksh"),
    *("ruby", "perl", "php", "lua", "tclsh", "Rscript", "julia", "elixir"),
)
_CODE = re.compile(r"-[a-zA-Z]*[ce]|-E|--eval(?:=.*)?|--run(?:=.*)?")  # options that take code
_WITH_VALUE = ("-I", "-r", "-d", "-l", "-o", "-O")  # options that a word more belongs to
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


def script_command(test: Test, script: str, scripts: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The argv that runs the test, whose script is at `script`; empty where none is known.

    `scripts` are the config's commands by ending; the longest ending that matches counts, `.spec.js` before `.js`. A
    shebang also decides for `.sh`, since many shell scripts need bash.
    """
    suffixes = PurePosixPath(test.path.lower()).suffixes
    endings = ["".join(suffixes[i:]) for i in range(len(suffixes))]
    ending = endings[-1] if endings else ""
    shebang = _shebang(test.text)
    configured = next((scripts[e] for e in endings if e in scripts), None)
    if configured is not None:
        command = configured
    elif shebang and (ending == ".sh" or ending not in _KNOWN):
        command = (*shebang, "{script}")
    else:
        command = _KNOWN.get(ending, ())
    filled = tuple(part.replace("{script}", script) for part in command)
    return filled if not command or any("{script}" in part for part in command) else (*filled, script)


def placed(text: str, place: str, beside: str) -> str:
    """The script's text for that place. `beside`: how paths of the files inside begin."""
    return text.replace(PLACE, place).replace(BESIDE, beside)


class Provable(NamedTuple):
    """A command of which a runner of `inside` can prove that it reached its end."""

    interpreter: tuple[str, ...]  # with its options
    runner: str
    arguments: tuple[str, ...]  # the script, or `-m` with a module, or a file of the tree's, and what it is given


def provable(command: Sequence[str], script: str = "", *, early: bool = False) -> Provable | None:
    """What is run where the command is `PYTHON SCRIPT`, `PYTHON -m MODULE ...` or `node SCRIPT`, maybe with options; or
    Django's tests are, which a file of the repository's gives to unittest. `early`: Python is older than 3.8, under
    which nothing but a script's end is proved."""
    if command and command[0] in ("pytest", "py.test"):  # the program of that name, for `python3` on the same PATH
        command = ("python3", "-m", "pytest", *command[1:])
    if len(command) < 2:
        return None
    name = PurePosixPath(command[0]).name
    is_python = name.startswith(("python", "pypy"))
    at = 1
    while is_python and at < len(command) and (known := _PYTHON_OPTION.fullmatch(command[at])):
        at += 2 if known["value"] else 1
    while name in ("node", "nodejs") and at < len(command) and _NODE_OPTION.fullmatch(command[at]):
        at += 1
    interpreter, rest = tuple(command[:at]), tuple(command[at:])
    is_script = bool(script) and rest == (script,)
    if is_python and early:
        return Provable(interpreter, "early.py", rest) if is_script else None
    if is_python and (is_script or (rest[:1] == ("-m",) and len(rest) >= 2)):
        return Provable(interpreter, "runner.py", rest)
    if is_python and not script and django_script(rest):
        return Provable(interpreter, "runner.py", ("-m", *rest))
    if name in ("node", "nodejs") and is_script:
        return Provable(interpreter, "runner.cjs", rest)
    return None


def program(command: Sequence[str]) -> str:
    """The name of the program, without its folder and version."""
    return re.sub(r"[\d.]+$", "", PurePosixPath(command[0]).name) if command else ""


def interpreter(command: Sequence[str], script: str) -> str:
    """The interpreter that is given the script as a word by itself, behind nothing but options; "" for none."""
    if tuple(command[-1:]) != (script,):
        return ""
    for at, word in enumerate(command[:-1]):
        if (name := program([word])) in _INTERPRETERS:
            options = command[at:-1]
            plain = all(one[:1] == "-" or before in _WITH_VALUE for before, one in itertools.pairwise(options))
            return name if plain and not any(map(_CODE.fullmatch, options[1:])) else ""
    return ""


def split_environment(argv: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The variables that `env NAME=value ... PROGRAM` sets, and what it runs. With options of `env`, the whole argv."""
    if not argv or argv[0] != "env":
        return {}, tuple(argv)
    set_here = list(itertools.takewhile(_ASSIGNMENT.match, argv[1:]))
    rest = tuple(argv[1 + len(set_here) :])
    if not rest or rest[0].startswith("-"):
        return {}, tuple(argv)
    return dict(word.split("=", 1) for word in set_here), rest


def joined_path(named: str, import_path: str, root: str) -> str:
    """PYTHONPATH of a command that sets one of its own, relative to the tree at `root`: that one first, then ours."""
    entries = [os.path.normpath(os.path.join(root, entry)) for entry in named.split(os.pathsep) if entry]
    return os.pathsep.join(dict.fromkeys([*entries, *import_path.split(os.pathsep)]))


def in_short(command: Sequence[str]) -> str:
    """The command without its options, for people."""
    if command and command[0] == "env" and split_environment(command)[0]:
        command = command[1:]
    words = list(itertools.takewhile(lambda word: not word.startswith("-") or word in ("-m", "-c"), command))
    return " ".join(words) + (" …" if len(words) < len(command) else "")


def script_name(test: Test) -> str:
    """A plain file name for the script: the last part of its path."""
    name = "".join(c if c.isalnum() or c in "._-" else "_" for c in PurePosixPath(test.path).name).lstrip(".")
    return name or "test"


def _shebang(text: str) -> tuple[str, ...]:
    line = text.split("\n", 1)[0]
    if not line.startswith("#!"):
        return ()
    try:
        words = shlex.split(line[2:])
    except ValueError:
        return ()
    if not words:
        return ()
    if PurePosixPath(words[0]).name == "env":
        words = [word for word in words[1:] if word != "-S"]
    elif words[0].startswith(("/bin/", "/usr/bin/", "/usr/local/bin/")):
        words[0] = PurePosixPath(words[0]).name  # found on PATH
    return tuple(words)
