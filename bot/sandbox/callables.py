"""What can be called in a module, and where pytest's plugins are. Standard library only, Python 3.8+.

Executed by `runner.py`, which hands it to `guard.py` and `results.py`.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


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
        if isinstance(value, type) and getattr(value, "__module__", "") == module.__name__:
            inner = value.__dict__
            for attribute, method in list(inner.items()):
                if callable(method) or isinstance(method, (staticmethod, classmethod, property)):
                    yield inner, attribute, method, f"{module.__name__}.{name}.{attribute}"


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
