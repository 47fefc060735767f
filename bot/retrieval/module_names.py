"""What the Python modules of a checkout define at their top level."""

import ast
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bot.patch.reader import text_of
from bot.patch.syntax import parsed
from bot.records import Checkout

Names = Callable[[str], frozenset[str]]  # of the module with this dotted name


def module_names(checkout: Checkout) -> Names:
    """The names that a module of the checkout binds at its top level; none for other modules.

    Of several files that could be the module, as in a monorepo, the one nearest to the root is read.
    """
    read = text_of(Path(checkout.root))
    files = sorted((path for path in checkout.files if path.endswith(".py")), key=lambda path: (path.count("/"), path))

    @functools.cache
    def names(module: str) -> frozenset[str]:
        place = module.replace(".", "/")
        ends = (f"/{place}.py", f"/{place}/__init__.py")
        path = next((path for path in files if f"/{path}".endswith(ends)), None)
        try:
            return frozenset(_bound(parsed(read(path) or "").body)) if path else frozenset()
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            return frozenset()

    return names


def _bound(body: Sequence[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.If | ast.Try | ast.With):
            yield from _bound([one for one in ast.iter_child_nodes(node) if isinstance(one, ast.stmt)])
            yield from _bound([one for handler in getattr(node, "handlers", ()) for one in handler.body])
        else:
            yield from (n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
