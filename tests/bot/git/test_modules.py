"""Submodules: fetched at the recorded commit where that is safe, named where they are not, and never changed."""

from pathlib import Path
from typing import Any

import pytest

from bot.errors import CheckoutError, RateLimited
from bot.git import modules
from bot.git.checkout import check_out
from bot.git.commit import Author, commit_patch
from bot.git.import_diff import read_patch
from bot.patch.edits import Problem, Rewrite
from bot.records import Checkout, FileChange, Patch
from bot.solver.editing import editing
from bot.solver.project import disqualifying
from bot.solver.stages.survey import other_contents
from tests.github import GitHubServer
from tests.github.fixtures import forge_for

REPO = "olive/tools"
LOST = "1" * 40  # a commit that is nowhere


def described(**addresses: str) -> str:
    return "".join(f'[submodule "{name}"]\n\tpath = {name}\n\turl = {url}\n' for name, url in addresses.items())


@pytest.fixture
def old(github: GitHubServer) -> str:
    """A commit of olive/parts that is not its newest."""
    github.create_repository("olive/parts", {"p.py": "old\n", "link": "-> ../a.py", "out": "-> ../../../etc/passwd"})
    found = github.world.repository("olive/parts").git.commit_of("main")
    github.commit("olive/parts", {"p.py": "new\n"})
    return str(found)


async def checked_out(github: GitHubServer, folder: Path, files: dict[str, Any], **settings: Any) -> Checkout:
    github.create_repository(REPO, {"a.py": "x = 1\n", **files})
    return await check_out(forge_for(github, REPO, **settings), REPO, folder / "w")


def tokens_for(github: GitHubServer, repository: str) -> set[bool]:
    """Whether requests of git for it carried a token."""
    return {"authorization" in one.headers for one in github.requests if one.path.startswith(f"/{repository}.git/")}


async def test_each_is_fetched_at_its_recorded_commit_without_a_token(
    github: GitHubServer, tmp_path: Path, old: str
) -> None:
    deep = github.create_repository("other/deep", {"d.txt": "deep\n"}) and github.world.repository("other/deep").git
    middle = {".gitmodules": described(deep="../../other/deep"), "deep": f"@ {deep.commit_of('main')}", "m.py": "m\n"}
    github.create_repository("other/middle", middle)
    github.rename("other/middle", "other/moved")
    tip = github.world.repository("other/moved").git.commit_of("main")
    addresses = {"libs/parts": "git@127.0.0.1:olive/parts.git", "middle": f"{github.url}/other/middle"}
    links = {"libs/parts": f"@ {old}", "middle": f"@ {tip}"}
    checkout = await checked_out(github, tmp_path, {".gitmodules": described(**addresses), **links})
    root = Path(checkout.root)
    assert (root / "libs/parts/p.py").read_text() == "old\n"
    assert (root / "middle/m.py").read_text() == "m\n"
    assert (root / "middle/deep/d.txt").read_text() == "deep\n"
    assert (root / "libs/parts/link").is_symlink()
    assert checkout.left_out == ("libs/parts/out is a symbolic link that leads out of the repository",)
    assert checkout.files == (".gitmodules", "a.py")  # others' files are not this repository's
    assert (checkout.modules, checkout.empty) == (("libs/parts", "middle"), ())
    assert sorted(path.name for path in Path(checkout.workspace).iterdir()) == ["git", "tree"]
    for repository in ("olive/parts", "other/middle", "other/moved", "other/deep"):
        assert tokens_for(github, repository) == {False}
    assert "can be used but not changed: libs/parts, middle." in other_contents(checkout)


async def test_attack_17_what_can_t_be_fetched_is_named_and_fails_nothing(
    github: GitHubServer, tmp_path: Path, old: str
) -> None:
    secret = github.create_repository("other/secret", {"s.txt": "s\n"}) and github.world.repository("other/secret")
    github.set_repository("other/secret", private=True)
    commit = secret.git.commit_of("main")
    addresses = {
        "elsewhere": "https://x:s3cret@example.com/a/b",
        "escape": "file:///etc",
        "lost": "../parts",
        "secret": "../../other/secret",
        "unwanted": "../parts\n\tupdate = none",
        "run": "../parts\n\tupdate = !touch /tmp/owned",
    }
    links = dict.fromkeys(addresses, f"@ {old}") | {"lost": f"@ {LOST}", "secret": f"@ {commit}", "unsaid": f"@ {old}"}
    checkout = await checked_out(github, tmp_path, {".gitmodules": described(**addresses), **links})
    words = "\n".join(checkout.left_out)
    for reason in (
        "elsewhere is a submodule, which is not fetched: its repository is not on 127.0.0.1",
        "escape is a submodule, which is not fetched: its address in .gitmodules is not one",
        f"lost is a submodule, which is not fetched: olive/parts does not have its commit {LOST[:12]}",
        "secret is a submodule, which is not fetched: not everybody may read other/secret",
        "unwanted is a submodule, which is not fetched: .gitmodules says that it is not",
        "unsaid is a submodule, which is not fetched: .gitmodules says nothing of it",
    ):
        assert reason in words
    assert "s3cret" not in words
    assert checkout.empty == ("elsewhere", "escape", "lost", "secret", "unsaid", "unwanted")
    assert (Path(checkout.root) / "run" / "p.py").read_text() == "old\n"
    assert "their folders are empty here: elsewhere, escape, lost" in other_contents(checkout)


@pytest.mark.parametrize(
    ("setting", "covered", "words"),
    [
        ("public", True, "TROOP_CHECKOUT_SUBMODULES=installation"),
        ("installation", True, ""),
        ("installation", False, "neither public nor covered"),
        ("none", True, "TROOP_CHECKOUT_SUBMODULES is none"),
    ],
)
async def test_a_private_one_of_the_same_owner_takes_the_operator_s_word(
    github: GitHubServer, tmp_path: Path, old: str, setting: str, covered: bool, words: str
) -> None:
    github.set_repository("olive/parts", private=True)
    if not covered:
        github.exclude("olive/parts")
    checkout = await checked_out(
        github, tmp_path, {".gitmodules": described(m="../parts"), "m": f"@ {old}"}, checkout_submodules=setting
    )
    assert (Path(checkout.root) / "m/p.py").exists() is not bool(words)
    assert words in "".join(checkout.left_out)
    assert tokens_for(github, "olive/parts") == (
        {False, True} if not words else set() if setting == "none" else {False}
    )


async def test_attack_28_count_depth_and_size_are_bounded(
    github: GitHubServer, tmp_path: Path, old: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modules, "MOST", 3)
    monkeypatch.setattr(modules, "DEEPEST", 1)
    github.create_repository("olive/big", {"big.bin": bytes(3_000_000)})
    big = github.world.repository("olive/big").git.commit_of("main")
    github.create_repository("olive/outer", {".gitmodules": described(inner="../parts"), "inner": f"@ {old}"})
    outer = github.world.repository("olive/outer").git.commit_of("main")
    addresses = {"a": "../outer", "b": "../big", "c": "../parts", "d": "../parts"}
    links = {"a": f"@ {outer}", "b": f"@ {big}", "c": f"@ {old}", "d": f"@ {old}"}
    files = {".gitmodules": described(**addresses), **links}
    checkout = await checked_out(github, tmp_path, files, checkout_max_bytes=2_000_000)
    assert checkout.empty == ("a/inner", "b", "d")
    words = "\n".join(checkout.left_out)
    for reason in ("a/inner is a submodule, which is not fetched: it is in 1 others", "d is a sub", "3 are", "bytes"):
        assert reason in words


async def test_a_limit_of_the_rate_is_the_run_s_to_wait_for(github: GitHubServer, tmp_path: Path, old: str) -> None:
    github.fault("GET", r"olive/parts\.git/info/refs", status=429, headers={"retry-after": "3000"})
    with pytest.raises(RateLimited):
        await checked_out(github, tmp_path, {".gitmodules": described(m="../parts"), "m": f"@ {old}"})


@pytest.mark.parametrize("path", ["m", "m/p.py", "m/new/q.py"])
async def test_attack_17_no_candidate_changes_a_submodule(
    github: GitHubServer, tmp_path: Path, old: str, path: str
) -> None:
    checkout = await checked_out(github, tmp_path, {".gitmodules": described(m="../parts"), "m": f"@ {old}"})
    patch = Patch(changes=(FileChange(path=path, text="x\n"),), diff="")
    assert "is in the submodule m" in disqualifying(checkout, ())(patch.changes)
    made = editing(checkout, (), repairs=True)((Rewrite(path=path, text="x\n"),), None)
    assert isinstance(made, Problem)
    assert path != "m/p.py" or "is in the submodule m, which is another repository" in made.text
    with pytest.raises(CheckoutError, match=r"submodule|not a folder"):
        await commit_patch(checkout, patch, "Change", Author(name="a", email="a@b"), None)


@pytest.mark.parametrize(
    "diff",
    [
        f"diff --git a/m b/m\nindex {{old}}..{LOST} 160000\n--- a/m\n+++ b/m\n@@ -1 +1 @@\n"
        f"-Subproject commit {{old}}\n+Subproject commit {LOST}\n",
        "diff --git a/m b/m\ndeleted file mode 160000\nindex {old}..0000000\n--- a/m\n+++ /dev/null\n@@ -1 +0,0 @@\n"
        "-Subproject commit {old}\n",
        "diff --git a/m/p.py b/m/p.py\nnew file mode 100644\n--- /dev/null\n+++ b/m/p.py\n@@ -0,0 +1 @@\n+x\n",
    ],
    ids=["moved", "deleted", "written into"],
)
async def test_attack_17_a_diff_that_touches_a_submodule_is_no_candidate(
    github: GitHubServer, tmp_path: Path, old: str, diff: str
) -> None:
    checkout = await checked_out(github, tmp_path, {".gitmodules": described(m="../parts"), "m": f"@ {old}"})
    with pytest.raises(CheckoutError, match=r"submodule|does not apply"):
        await read_patch(checkout, diff.format(old=old), "candidate")
