"""Commits on trees that somebody made to mislead: the pushed commit changes the patch's files, and nothing else."""

from pathlib import Path

import pytest

from bot.git.checkout import check_out
from bot.git.link_loops import MOST, endless
from bot.patch.encoding import decoded
from bot.records import FileChange, Patch, by_path
from tests.github import GitHubServer
from tests.github.fixtures import forge_for

REPO, BRANCH = "olive/tools", "troop/issue-1-x"
SOURCE = "def f():\n    return 1\n"
CRLF = SOURCE.replace("\n", "\r\n")
MIXED = "def f():\r\n    return 1\nx = 1\r\n"
BASES: dict[str, tuple[str, str]] = {  # .gitattributes, and the file as it is committed
    "no attributes": ("", SOURCE),
    "CRLF": ("", CRLF),
    "mixed line endings": ("", MIXED),
    "CRLF, and text=auto": ("* text=auto\n", CRLF),
    "CRLF, and text": ("*.py text\n", CRLF),
    "CRLF, and eol=crlf": ("*.py text eol=crlf\n", CRLF),
    "LF, and eol=crlf": ("*.py text eol=crlf\n", SOURCE),
    "mixed, and eol=lf": ("*.py text eol=lf\n", MIXED),
    "an encoding": ("*.py text working-tree-encoding=latin1\n", f"# é\n{SOURCE}"),
    "an encoding that there is not": ("*.py text working-tree-encoding=nope\n", SOURCE),
    "ident": ("*.py ident\n", f"# $Id$\n{SOURCE}"),
    "a filter": ("*.py filter=evil\n", SOURCE),
}


async def changed(github: GitHubServer, folder: Path, *changes: FileChange) -> list[str]:
    """Publish; modes and paths of all that the commit changes."""
    forge = forge_for(github, REPO)
    checkout = await check_out(forge, REPO, folder)
    patch = Patch(changes=by_path(changes or edit(Path(checkout.root))), diff="x")
    commit = await forge.commit(checkout, patch, "Change", None)
    pushed = await forge.push(REPO, Path(checkout.workspace), BRANCH, commit, force=True)
    listing = github.world.repository(REPO).git.git("diff-tree", "-r", "--no-renames", f"{pushed}^", pushed)
    fields = [line.replace("\t", " ").split(" ") for line in listing.splitlines()]
    return [f"{old.lstrip(':')} {new} {' '.join(path)}" for old, new, _, _, _, *path in fields]


def edit(root: Path) -> list[FileChange]:
    found = decoded((root / "pkg/f.py").read_bytes())
    assert found is not None
    text, encoding = found
    return [FileChange(path="pkg/f.py", text=text.replace("return 1", "return 2"), encoding=encoding)]


@pytest.mark.parametrize("base", BASES)
async def test_attack_45_lines_that_the_patch_leaves_alone_keep_their_bytes(
    github: GitHubServer, tmp_path: Path, base: str
) -> None:
    attributes, source = BASES[base]
    github.create_repository(REPO, {".gitattributes": attributes, "pkg/f.py": f"!x {source}", "pkg/F.py": "other\n"})
    assert await changed(github, tmp_path / "w") == ["100755 100755 pkg/f.py"]
    there = github.world.repository(REPO).git.git("show", f"refs/heads/{BRANCH}:pkg/f.py")
    assert there == source.replace("return 1", "return 2")


@pytest.mark.parametrize("encoding", ["UTF-16", "latin1"])
async def test_attack_45_a_new_file_is_text_whatever_the_attributes_say(
    github: GitHubServer, tmp_path: Path, encoding: str
) -> None:
    github.create_repository(REPO, {".gitattributes": f"*.py text working-tree-encoding={encoding}\n"})
    new = FileChange(path="tests/test_f.py", text="# é\n")
    assert await changed(github, tmp_path / "w", new) == ["000000 100644 tests/test_f.py"]
    assert github.read_file(REPO, "tests/test_f.py", BRANCH) == "# é\n"


DATES = {"none": "", "before 1970": "committer a <a@b> -1 +0000\n", "too late": f"committer a <a@b> {'9' * 20} +0000\n"}


@pytest.mark.parametrize("date", DATES)
async def test_attack_42_a_commit_with_no_usual_date_gets_its_fix(
    github: GitHubServer, tmp_path: Path, date: str
) -> None:
    github.create_repository(REPO, {"pkg/f.py": SOURCE})
    git = github.world.repository(REPO).git
    raw = f"tree {git.git('rev-parse', 'HEAD^{tree}')}{DATES[date]}\nx\n".encode()
    made = git.git("hash-object", "-w", "-t", "commit", "--literally", "--stdin", stdin=raw)
    Path(git.path, "refs", "heads", "main").write_text(made)
    assert await changed(github, tmp_path / "w") == ["100644 100644 pkg/f.py"]


async def test_attack_28_odd_names_and_contents_beside_the_fix_are_kept(github: GitHubServer, tmp_path: Path) -> None:
    """No text, line breaks, as long as a disk takes; equal but for case or for Unicode's forms; reserved elsewhere."""
    names = [
        b"caf\xe9.py",
        b"\xed\xa0\x80.py",
        b"a\nb.py",
        b"\x1b[31m.py",
        b"-rf",
        b"n" * 255,
        b"\xf0\x9f\x98\x80" * 63,
    ]
    names += [
        "\xe9.py".encode(),
        "e\u0301.py".encode(),
        b"README",
        b"readme",
        b"CON",
        b"aux.py",
        b"a\\b.py",
        b"a:b",
        b"end. ",
    ]
    github.create_repository(REPO, {"pkg/f.py": SOURCE})
    git = github.world.repository(REPO).git
    entries = [f"040000 tree {git.git('rev-parse', 'HEAD:pkg').strip()}\tpkg".encode()]
    for name in names:
        blob = git.git("hash-object", "-w", "--stdin", stdin=b"x = '\xed\xa0\x80\xff\0'\n").strip()
        entries.append(f"100644 blob {blob}\t".encode() + name)
    entries.append(f"160000 commit {'1' * 40}\t".encode() + b"sub\xff\n")
    tree = git.git("mktree", "--missing", "-z", stdin=b"\0".join(entries) + b"\0").strip()
    git.commit_tree(tree, "Odd", "main", git.commit_of("main"))
    assert await changed(github, tmp_path / "w") == ["100644 100644 pkg/f.py"]


# -- links that never end


async def test_attack_45_links_by_which_walking_never_ends_are_left_out(github: GitHubServer, tmp_path: Path) -> None:
    files = {"pkg/f.py": SOURCE, "pkg/one": "-> .", "pkg/two": "-> ../pkg", "docs": "-> pkg/inner", "loop": "-> loop"}
    github.create_repository(REPO, files | {"pkg/inner/x.md": "x\n"})
    forge = forge_for(github, REPO)
    checkout = await check_out(forge, REPO, tmp_path / "look")
    assert [words.split(" ")[0] for words in checkout.left_out] == ["pkg/one", "pkg/two"]
    assert (Path(checkout.root) / "docs/x.md").exists()
    assert await changed(github, tmp_path / "w") == ["100644 100644 pkg/f.py"], "the commit keeps them"


@pytest.mark.parametrize(
    ("links", "left_out"),
    [
        ({}, set()),
        ({"a/x": "b"}, set()),
        ({"a/x": "b", "b/y": "c"}, set()),
        ({"a/x": "a"}, {"a/x"}),
        ({"a/x": ""}, {"a/x"}),
        ({"a/x": "b", "b/y": "a"}, {"a/x", "b/y"}),
        ({"a/x": "b", "b/y": "c/d", "c/z": "a"}, set()),
        ({"a/x": "b", "b/y": "c", "c/d/z": "a", "b/fine": "e"}, {"a/x", "b/y", "c/d/z"}),
    ],
)
def test_which_links_are_left_out(links: dict[str, str], left_out: set[str]) -> None:
    folders = ["", "a", "b", "c", "c/d", "e"]
    assert endless(folders, links, dict.fromkeys(folders, 3)) == left_out


def test_links_that_multiply_are_left_out() -> None:
    """Two links from each folder to the next: 2^30 ways to the last."""
    folders = ["", *(f"d{n}" for n in range(31))]
    links = {f"d{n}/{way}": f"d{n + 1}" for n in range(30) for way in "ab"}
    assert endless(folders, links, {"d30": 1}) == set(links)
    few = {link: to for link, to in links.items() if int(to[1:]) < 16}
    assert endless(folders, few, {"d15": 1}) == set()
    assert endless(folders, few, {"d15": MOST}) == set(few)


def test_many_loops_are_found_in_a_bounded_time() -> None:
    folders = ["", *(f"d{n}" for n in range(1_000))]
    links = {f"d{n}/x": f"d{n}" for n in range(1_000)}
    assert endless(folders, links, {}) == set(links)
