"""Branch names: nothing of a title but letters and digits (attack 18), and the same for the same issue."""

import pytest

from bot.forge.branches import branch_of, local_branch_of, pull_number
from bot.git.command import check_branch
from bot.records import FileChange, Issue, Patch

PATCH = Patch(changes=(FileChange(path="a.py", text="x"),), diff="")


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("add() is wrong", "add-is-wrong"),
        ("$(id) --upload-pack=evil ..\n", "id-upload-pack-evil"),
        ("Überlauf bei Größe", "uberlauf-bei-groe"),
        ("-" * 100 + "late", "late"),
        ("x" * 100, "x" * 40),
        ("加算", ""),
    ],
)
def test_names(title: str, slug: str) -> None:
    issue = Issue(title=title, body="", number=12)
    assert branch_of(issue) == f"troop/issue-12-{slug}".rstrip("-")
    assert local_branch_of(issue, PATCH) == f"troop/{slug or 'issue'}-{PATCH.id[:8]}"
    check_branch(branch_of(issue))
    assert branch_of(issue, "release/1.x") == f"{branch_of(issue)}-on-release-1-x"
    check_branch(local_branch_of(issue, PATCH))


@pytest.mark.parametrize(
    ("url", "number"), [("https://x/o/r/pull/7", 7), ("https://x/o/r/issues/7", None), ("", None), ("/pull/0", None)]
)
def test_the_number_of_a_pull_request(url: str, number: int | None) -> None:
    assert pull_number(url) == number
