"""What a test script rests on beside functions: names that it imports, constants, variables of the environment.

Standard library only, Python 3.8+. Executed by `runner.py` for `guard.py`, never imported itself.
"""

from __future__ import annotations

import os
import re
import sys
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    # Handed in by `runner.py`.
    from bot.sandbox.inside.meant import FUNCTIONS, nodes

_OF_PYTEST = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD")
_FOR_CHILDREN = (  # variables that decide what the script's own processes run, beside what it names
    *("PATH", "PYTHONPATH", "PYTHONHOME", "PYTHONOPTIMIZE", "PYTHONSTARTUP", "PYTHONINSPECT"),
    *("PYTHONUSERBASE", "PYTHONSAFEPATH", "PYTHON_PRESITE", "PYTHON_LAZY_IMPORTS"),
    *("LD_PRELOAD", "LD_LIBRARY_PATH", "BASH_ENV", "ENV", "NODE_OPTIONS", "NODE_PATH", "PERL5OPT", "RUBYOPT"),
)
_STARTING = (b"subprocess", b"os.system", b"popen", b"os.exec", b"os.spawn")
_CONSTANT = {
    "math": "",
    "cmath": "",
    "string": "",
    "numpy": "",
    "os": "",
    "sys": "executable float_info maxsize platform",
}


def uses_mocks(source: bytes) -> bool:
    return b"mock" in source.lower() or b"monkeypatch" in source


def _stored(tree: Any) -> Iterator[str]:
    """Names that the program binds by anything but an import."""
    for node in nodes(tree):
        if type(node).__name__ != "alias":
            if type(getattr(node, "ctx", None)).__name__ in ("Store", "Del"):
                yield getattr(node, "id", "")
            yield getattr(node, "name", None) or ""


def names_of(tree: Any, provided: Callable[[str], bool]) -> tuple[set[str], set[str]]:
    """Names that the script's imports bind to what is in modules of the tree, of `*` all that nothing else binds; and
    those of what is in other modules, and of what it defines, but fixtures of pytest."""
    every = nodes(tree)
    aliases = [(node, one) for node in every for one in getattr(node, "names", ()) if hasattr(one, "asname")]
    bound = {(one.asname or one.name).partition(".")[0] for _, one in aliases}
    given = {getattr(node, "arg", None) for node in every}
    of_tree: set[str] = set()
    others = {node.name for node in every if type(node).__name__ in (*FUNCTIONS, "ClassDef")} - given
    for node, alias in aliases:
        origin = getattr(node, "module", None) or alias.name
        mine = getattr(node, "level", 0) or provided(origin.partition(".")[0])
        (of_tree if mine else others).add(alias.asname or alias.name.partition(".")[0])
        if alias.name == "*" and mine:
            of_tree |= {getattr(one, "id", "") for one in every} - {
                *dir(sys.modules["builtins"]),
                *_stored(tree),
                *bound,
            }
    return of_tree, others


def _own_constants(tree: Any) -> Iterator[tuple[str, object]]:
    """Names of the script's that stand for a number or a text and are bound once: a function of its that a candidate
    gets leads to them."""
    names = list(_stored(tree))
    for node in tree.body:
        name = getattr(node.targets[0], "id", "") if type(node).__name__ == "Assign" and len(node.targets) == 1 else ""
        if name and type(node.value).__name__ == "Constant" and names.count(name) == 1:
            yield name, node.value.value


def surroundings_of(tree: Any, named: set[str], main: dict[str, Any], source: bytes) -> Callable[[], str]:
    """What of the script's surroundings is not what it was: its module, the names that it imports, variables.

    Where the script itself uses mocks, or sets such variables, it is not asked for.
    """
    modules, environ, stored = sys.modules, os.environ, set(_stored(tree))
    variables_of = [] if b"PYTEST_" in source else [*_OF_PYTEST]
    if any(word in source for word in _STARTING):
        variables_of += [name for name in _FOR_CHILDREN if name.encode() not in source]
    planted = _planted() if "re" in named else lambda: False
    bound: list[tuple[str, object]] = []
    for node in [] if uses_mocks(source) else tree.body:
        for alias in getattr(node, "names", ()) if type(node).__name__ in ("Import", "ImportFrom") else ():
            origin = getattr(node, "module", None) or alias.name
            local = getattr(alias, "asname", None) or alias.name.partition(".")[0]
            if origin not in named or local in stored or bool(getattr(node, "level", 0)):
                continue
            owner = modules[origin] if alias.asname or hasattr(node, "module") else modules[local]
            value = getattr(owner, alias.name, None) if hasattr(node, "module") else owner
            bound += [(local, value)] if value is not None else []

    own, type_of, lazy = list(_own_constants(tree)), type, getattr(types, "LazyImportType", None)

    def variables() -> list[str | None]:
        return [environ.get(name) for name in variables_of]

    before = variables()

    def replaced() -> str:
        if getattr(modules.get("__main__"), "__dict__", None) is not main:
            return "the script"
        for name, value in bound:
            now = main.get(name, value)
            if now is not value and type_of(now) is not lazy:
                return name
        for name, value in own:
            now = main.get(name, value)
            if type_of(now) is not type_of(value) or now != value:
                return name
        if planted():
            return "re._cache"
        return "" if variables() == before else "variables of the environment"

    return replaced


def making_tasks(foreign: Callable[[Any], bool]) -> Callable[[], str]:
    """What tells where the running loop of asyncio makes tasks as the candidate says."""
    running = sys.modules["asyncio.events"]._get_running_loop

    def replaced() -> str:
        factory = getattr(running(), "_task_factory", None)
        return "what makes tasks" if factory is not None and foreign(factory) else ""

    return replaced


def _planted() -> Callable[[], bool]:
    """Whether `re` keeps a pattern in the place of another one."""
    caches = [cache for name in ("_cache", "_cache2") if type(cache := getattr(sys.modules["re"], name, None)) is dict]
    pattern, flags = type(sys.modules["re"].compile("")), 32 | 256  # UNICODE and DEBUG
    kind, items = type, dict.items

    def planted() -> bool:
        for cache in caches:
            for (_, text, asked), found in list(items(cache)):
                if kind(found) is not pattern or kind(text) not in (str, bytes):
                    continue
                named = "(?" if kind(text) is str else b"(?"
                if found.pattern != text or (named not in text and (found.flags ^ asked) & ~flags):
                    return True
        return False

    return planted


class _Profile:
    """A namespace of whether hypothesis tries as many examples as it did, in phases that find failures."""

    def __init__(self, settings: Any, least: int, phases: tuple[Any, ...]) -> None:
        self._space, self._kind, self._least, self._phases = vars(settings), settings, least, phases
        self._type, self._inside, self._all = type, object.__getattribute__, all

    def get(self, _: str) -> bool:
        kind, profiles = self._type, self._space["_profiles"]
        profile = profiles.get(self._space["_current_profile"]) if kind(profiles) is dict else None
        if kind(profile) is not self._kind:
            return False
        inside = self._inside(profile, "__dict__")
        most, phases = inside.get("_max_examples"), inside.get("_phases")
        if kind(most) is not int or kind(phases) is not tuple or most < self._least:
            return False
        return self._all(any(one is phase for phase in phases) for one in self._phases)


def _profile(source: bytes, of_changed: Callable[[str], bool]) -> Iterator[tuple[Any, str, object, str]]:
    """The profile by which hypothesis tries examples, where the script says nothing of profiles. A `conftest.py` that
    is not changed may ask for fewer."""
    settings: Any = getattr(sys.modules.get("hypothesis"), "settings", None)
    profiles, current = getattr(settings, "_profiles", None), getattr(settings, "_current_profile", None)
    if type(profiles) is not dict or current not in profiles or b"profile" in source:
        return
    inside = vars(profiles[current])
    numbers: list[Any] = [inside.get("_max_examples")]
    phases = inside.get("_phases") or ()
    for folder in ("", "test", "tests"):
        place = os.path.join(os.getcwd(), folder, "conftest.py")
        if os.path.isfile(place) and not of_changed(place):
            with open(place, "rb") as file:
                numbers += map(int, re.findall(rb"max_examples\s*=\s*(\d+)", file.read()))
    if type(numbers[0]) is int:
        needed = tuple(one for one in phases if one.name in ("explicit", "generate"))
        yield _Profile(settings, min(numbers), needed), "", True, "constant hypothesis.settings._current_profile"


def constants(
    tree: Any, named: set[str], source: bytes, of_changed: Callable[[str], bool]
) -> Iterator[tuple[Any, str, object, str]]:
    """Entries of numbers and texts that modules of the script's imports have and nobody sets, but maybe the script."""
    yield from _profile(source, of_changed)
    stored = {getattr(one, "attr", "") for one in nodes(tree) if type(getattr(one, "ctx", None)).__name__ == "Store"}
    for module in named & set(_CONSTANT):
        space = vars(sys.modules[module])
        for name in _CONSTANT[module].split() or list(space):
            if name[:1] != "_" and name not in stored and isinstance(space[name], (int, float, complex, str, tuple)):
                yield space, name, space[name], f"constant {module}.{name}"
