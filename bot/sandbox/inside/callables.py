"""What can be called in a module, and where pytest's plugins are. Standard library only, Python 3.8+.

Executed by `runner.py`, which hands it to `guard.py` and `results.py`.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


_CAN_BE_SET = 1 << 9  # of a class: its attributes, as those of `int` can't. `Py_TPFLAGS_HEAPTYPE`


def entries(module: Any) -> Iterator[tuple[Any, str, object, str]]:
    """Namespace, name, value and dotted name of all functions, classes and methods of the module; also of what its
    objects, as `json._default_decoder`, have in the place of methods, which is nothing."""
    space = getattr(module, "__dict__", {})
    for name, value in list(space.items()):
        if name == "_":
            continue
        if not callable(value):
            own = type(value).__module__.partition(".")[0] == module.__name__.partition(".")[0]
            inside: Any = getattr(value, "__dict__", None) if own else None
            methods = list(vars(type(value)).items()) if type(inside) is dict else []
            for attribute, method in methods:
                if callable(method):
                    yield inside, attribute, inside.get(attribute), f"{module.__name__}.{name}.{attribute}"
            continue
        yield space, name, value, f"{module.__name__}.{name}"
        if (
            issubclass(type(value), type)  # what stands for another object may fail when it is asked for its class
            and value.__flags__ & _CAN_BE_SET
            and getattr(value, "__module__", "") == module.__name__
        ):
            inner = value.__dict__
            for attribute, method in list(inner.items()):
                if callable(method) or isinstance(method, (staticmethod, classmethod, property)):
                    yield inner, attribute, method, f"{module.__name__}.{name}.{attribute}"


def by_kind(entries: list[Any]) -> list[Any]:
    """The entries whose namespaces are of one type: how it is asked, and all spaces, names and values, to be
    compared in C; then the entries again."""
    found: dict[Any, list[Any]] = {}
    for entry in entries:
        found.setdefault(type(entry[0]).get, []).append(entry)
    return [(get, *([one[at] for one in some] for at in range(3)), some) for get, some in found.items()]


_function = type(lambda: None)


class _Cell:
    """A namespace of one function, which another one keeps: a decorator's."""

    def __init__(self, cell: Any) -> None:
        self._cell = cell

    def get(self, _: str) -> Any:
        try:
            return self._cell.cell_contents
        except ValueError:  # it is empty
            return None


def settings(module: Any) -> Iterator[tuple[Any, str, object, str]]:
    """Entries, as `entries` gives them, of what else a test tool rests on: what classes have in the place of numbers,
    texts and the like, the names of plugins, and functions that its functions keep."""
    space = getattr(module, "__dict__", {})
    for name in ("default_plugins", "essential_plugins"):
        if name in space:
            yield space, name, space[name], f"constant {module.__name__}.{name}"
    for owner, name, value, dotted in list(entries(module)):
        for cell in (value.__closure__ if type(value) is _function else None) or ():
            if callable(kept := _Cell(cell).get(name)):
                yield _Cell(cell), name, kept, dotted
        if issubclass(type(value), type) and owner is space and value.__module__ == module.__name__:
            inside = vars(value)
            for attribute, one in list(inside.items()):
                plain = one is None or isinstance(one, (int, float, str, tuple))
                if plain and attribute[:2] != "__" and attribute not in ("maxDiff", "longMessage"):
                    yield inside, attribute, one, f"constant {dotted}.{attribute}"


def plugins_of_pytest() -> tuple[str, ...]:
    """How the files of plugins that are installed begin, by the entry points of their distributions."""
    import importlib.metadata
    import importlib.util

    found = []
    points = (point for one in importlib.metadata.distributions() for point in one.entry_points)
    for top in {point.value.partition(":")[0].partition(".")[0] for point in points if point.group == "pytest11"}:
        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            continue
        if spec is not None:
            found += [folder + os.sep for folder in spec.submodule_search_locations or ()] or [spec.origin or ""]
    return tuple(filter(None, found))
