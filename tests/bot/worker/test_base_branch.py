"""Whose images a run uses: of the default branch what is there, and its own where its commit is of anything else."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bot.records import Checkout
from bot.worker import base_branch


class Forgetful:
    """A journal that keeps nothing."""

    async def get(self, key: str) -> str | None:
        return None

    async def put(self, key: str, value: str) -> None:
        pass


class Host:
    async def pull_state(self, repository: str, number: int) -> Any:
        return SimpleNamespace(head="b" * 40)

    async def tip(self, repository: str, branch: str) -> str:
        return "c" * 40


@pytest.mark.parametrize(
    ("revision", "again", "apart"),
    [(None, None, ""), (7, None, "#7"), (None, "develop", "develop")],
    ids=["default branch", "revision", "base branch"],
)
async def test_attack_34_what_is_beside_the_default_branch_has_images_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revision: int | None, again: str | None, apart: str
) -> None:
    async def check_out(forge: Any, repository: str, folder: Path, commit: str) -> Checkout:
        return Checkout(root=str(tmp_path), workspace=str(tmp_path), commit=commit or "a" * 40, files=())

    async def nothing(checkout: Checkout, settings: Any) -> str:
        return ""

    monkeypatch.setattr(base_branch, "check_out", check_out)
    run: Any = SimpleNamespace(
        repository="octo/mill",
        revision=revision and SimpleNamespace(pull=revision),
        again=again and SimpleNamespace(base=again, answer=None),
    )
    if again is None:
        monkeypatch.setattr(base_branch, "_base", lambda run, checkout, settings: nothing(checkout, settings))
    unused: Any = None
    forge: Any = Host()
    checkout = await base_branch.check_out_run(run, forge, tmp_path, Forgetful(), unused, unused)
    assert checkout.apart == apart
