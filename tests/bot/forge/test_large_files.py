"""Git LFS: files in the place of their pointers, within bounds, with a token for the host alone."""

import os
from pathlib import Path
from typing import Any

import pytest

from bot.errors import CheckoutError
from bot.forge.large_files import is_safe
from bot.forge.local import LocalCheckout
from bot.git.checkout import check_out
from bot.git.commit import Author, commit_patch
from bot.records import Checkout, FileChange, Patch
from bot.solver.stages.survey import other_contents
from tests.github.fixtures import forge_for
from tests.github.large_files import pointer_to
from tests.github.repository import run_git
from tests.github.server import GitHubServer

REPO = "olive/tools"
BIG, SMALL = bytes(range(256)) * 40, b"1,2,3\n"


def oid_of(pointer: str) -> str:
    return pointer.split("sha256:")[1][:64]


async def checked_out(
    github: GitHubServer, folder: Path, kept: dict[str, bytes], lost: tuple[bytes, ...] = (), **settings: Any
) -> Checkout:
    """Of a repository with these files behind pointers, of which the server lacks `lost`."""
    github.create_repository(REPO, {"a.py": "x = 1\n", **{path: pointer_to(text) for path, text in kept.items()}})
    stored = {oid_of(pointer_to(text)): text for text in kept.values() if text not in lost}
    github.world.repository(REPO).large_files = stored
    return await check_out(forge_for(github, REPO, **settings), REPO, folder / "w")


async def test_pointers_become_their_files_which_no_candidate_changes(github: GitHubServer, tmp_path: Path) -> None:
    github.create_repository(REPO)
    github.set_repository(REPO, private=True)
    files: dict[str, Any] = {"data/a.bin": pointer_to(BIG), "run": f"!x {pointer_to(SMALL)}", "copy": pointer_to(SMALL)}
    github.commit(REPO, files)
    stored = {oid_of(pointer_to(text)): text for text in (BIG, SMALL)}
    github.world.repository(REPO).large_files = stored
    checkout = await check_out(forge_for(github, REPO), REPO, tmp_path / "w")
    root = Path(checkout.root)
    assert ((root / "data/a.bin").read_bytes(), (root / "run").read_bytes()) == (BIG, SMALL)
    assert os.access(root / "run", os.X_OK)
    assert (checkout.stored, checkout.pointers, checkout.left_out) == (("copy", "data/a.bin", "run"), (), ())
    assert sorted(path.name for path in Path(checkout.workspace).iterdir()) == ["git", "tree"]
    patch = Patch(changes=(FileChange(path="run", text="x"),), diff="")
    with pytest.raises(CheckoutError, match="is kept in Git LFS"):
        await commit_patch(checkout, patch, "Change", Author(name="a", email="a@b"), None)


@pytest.mark.parametrize(
    ("lost", "settings", "words", "filled"),
    [
        ((BIG,), {}, "the host does not have them (404)", ("b.csv",)),
        ((), {"checkout_lfs_bytes": 1000}, "more than 1,000 bytes (TROOP_CHECKOUT_LFS_BYTES)", ("b.csv",)),
        ((), {"checkout_lfs_bytes": 0}, "TROOP_CHECKOUT_LFS_BYTES is 0", ()),
    ],
    ids=["lost", "too large", "not wanted"],
)
async def test_what_is_not_fetched_is_named(
    github: GitHubServer, tmp_path: Path, lost: tuple[bytes, ...], settings: Any, words: str, filled: tuple[str, ...]
) -> None:
    checkout = await checked_out(github, tmp_path, {"a.bin": BIG, "b.csv": SMALL}, lost, **settings)
    assert checkout.stored == filled
    assert words in checkout.left_out[0]
    assert "without their content here: a.bin" in other_contents(checkout)
    assert (Path(checkout.root) / "a.bin").read_text() == pointer_to(BIG)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text[:-1] + b"?", "another hash or size"),
        (lambda text: text + b"more", "another hash or size"),
    ],
    ids=["other bytes", "more bytes"],
)
async def test_attack_45_content_that_is_not_the_pointer_s_is_left(
    github: GitHubServer, tmp_path: Path, change: Any, words: str
) -> None:
    github.create_repository(REPO, {"a.bin": pointer_to(BIG), "odd": pointer_to(BIG).replace("oid sha256", "oid md5")})
    github.world.repository(REPO).large_files = {oid_of(pointer_to(BIG)): change(BIG)}
    checkout = await check_out(forge_for(github, REPO), REPO, tmp_path / "w")
    assert checkout.pointers == ("a.bin", "odd")
    assert words in checkout.left_out[0]


@pytest.mark.parametrize(
    ("path", "status", "headers", "words"),
    [
        ("objects/batch", 503, {}, "does not tell where they are (status 503)"),
        ("objects/batch", 302, {"location": "http://127.0.0.1:9/x"}, "(status 302)"),
        ("objects/batch", 200, {}, "does not tell where they are"),
        ("/large-files/", 302, {"location": "http://127.0.0.1:9/x"}, "answers with status 302"),
        ("/large-files/", 503, {}, "answers with status 503"),
    ],
)
async def test_a_host_that_does_not_answer_fails_nothing(
    github: GitHubServer, tmp_path: Path, path: str, status: int, headers: Any, words: str
) -> None:
    github.fault("*", path, status=status, headers=headers, times=9)
    checkout = await checked_out(github, tmp_path, {"a.bin": BIG})
    assert checkout.pointers == ("a.bin",)
    assert words in checkout.left_out[0]


@pytest.mark.parametrize(
    ("href", "safe"),
    [
        ("https://cdn.example.com/x", True),
        ("http://git.example.com/x", True),
        ("http://cdn.example.com/x", False),
        ("http://git.example.com:81/x", False),
        ("file:///etc/passwd", False),
        ("https://[::1/x", False),
        ("", False),
    ],
)
def test_content_comes_over_https_or_as_the_host_is_reached(href: str, safe: bool) -> None:
    assert is_safe(href, "http://git.example.com/o/n.git") is safe


@pytest.mark.parametrize("where", ["a.bin", ".git/lfs/objects"])
async def test_a_local_checkout_gives_what_it_has(tmp_path: Path, where: str) -> None:
    home, oid = tmp_path / "home", oid_of(pointer_to(BIG))
    home.mkdir()
    run_git("init", "--quiet", "--initial-branch=main", ".", cwd=home)
    for name in ("a.bin", "gone.bin"):
        (home / name).write_text(pointer_to(BIG if name == "a.bin" else SMALL))
    run_git("add", "--all", cwd=home)
    run_git("commit", "--quiet", "--message", "Begin", cwd=home)
    there = home / where if where == "a.bin" else home / where / oid[:2] / oid[2:4] / oid
    there.parent.mkdir(parents=True, exist_ok=True)
    there.write_bytes(BIG)
    run_git("update-index", "--assume-unchanged", "a.bin", cwd=home)  # as git-lfs's filter has it
    checkout = await check_out(LocalCheckout(home), "", tmp_path / "w")
    assert (Path(checkout.root) / "a.bin").read_bytes() == BIG
    assert (checkout.stored, checkout.pointers) == (("a.bin",), ("gone.bin",))
    assert "`git lfs pull` fetches them" in checkout.left_out[0]
