"""What tells the results of pytest's tests meets what repositories and their libraries really have in memory."""

from pathlib import Path

import pytest

from bot.records import SandboxJob
from bot.sandbox.process import ProcessSandbox
from bot.settings import SandboxSettings
from bot.solver.test_runners import PYTEST
from tests.lean_python import lean_path
from tests.patience import PATIENCE

__all__ = ["lean_path"]

# As Flask's `current_app`, Django's `settings` and Celery's tasks: what is asked of them before they are ready fails.
LIBRARY = """
import sys
import types


class Proxy:
    def __getattribute__(self, name):
        raise RuntimeError("working outside of " + name)

    def __call__(self):
        raise RuntimeError


class Kind(type):
    def __eq__(cls, other):
        raise RuntimeError

    __hash__ = type.__hash__


class Odd(metaclass=Kind):
    pass


library = types.ModuleType("library")
library.__file__ = "/usr/lib/python3/library.py"
library.current, library.odd, library.Odd = Proxy(), Odd(), Odd
sys.modules["library"] = library
"""


@pytest.mark.usefixtures("lean_path")
async def test_objects_that_stand_for_others_are_let_alone(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(LIBRARY)
    (tmp_path / "test_a.py").write_text("from library import current, odd\n\n\ndef test_a():\n    pass\n")
    sandbox = await ProcessSandbox.open(SandboxSettings(kind="process", concurrency=1), tmp_path)
    try:
        found = await sandbox.run(SandboxJob(command=PYTEST, timeout=PATIENCE))
    finally:
        await sandbox.close()
    assert found.passed, found.output
    assert found.results is not None
    assert (found.results.passed, found.results.failed, found.results.ended) == (("test_a.py::test_a",), (), True)
