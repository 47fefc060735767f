from pathlib import Path

from bot.retrieval.module_names import module_names
from tests.checkouts import checkout_of

BOX = """
import os.path
from .lid import Lid as Cover

try:
    import fast
except ImportError:
    fast = None
if os.name == "nt":
    SEP, *REST = "a", 1
else:
    def odd():
        local = 1
LIMIT: int = 3


class Box:
    size = 1

    def put(self):
        inner = 2


async def later():
    pass
"""


def test_names_are_those_of_the_top_level(tmp_path: Path) -> None:
    package = tmp_path / "src" / "pkg"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from .box import Box\n")
    (package / "box.py").write_text(BOX)
    (package / "broken.py").write_text("def f(:\n")
    far = tmp_path / "vendor" / "old" / "src" / "pkg"
    far.mkdir(parents=True)
    (far / "box.py").write_text("OLD = 1\n")
    names = module_names(checkout_of(tmp_path))
    assert names("pkg.box") == {"os", "Cover", "fast", "SEP", "REST", "odd", "LIMIT", "Box", "later"}
    assert names("pkg") == {"Box"}
    assert names("pkg.broken") == names("pkg.none") == names("json") == frozenset()
