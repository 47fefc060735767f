import subprocess
from pathlib import Path

import pytest

from bot.errors import CheckoutError
from bot.forge.local import LocalCheckout
from bot.git.checkout import check_out
from bot.git.import_diff import read_patch
from bot.records import Checkout, FileChange

FILES = {"a.py": "x = 1\n", "old.txt": "old\n", "run.sh": "#!/bin/sh\n"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    for name, text in FILES.items():
        (source / name).write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=source, check=True)
    return source


@pytest.fixture
async def checkout(source: Path, tmp_path: Path) -> Checkout:
    return await check_out(LocalCheckout(source), "", tmp_path / "work")


async def test_a_diff_becomes_a_patch(checkout: Checkout) -> None:
    diff = (
        "--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-x = 1\n+x = 2\n"
        "diff --git a/old.txt b/old.txt\ndeleted file mode 100644\n--- a/old.txt\n+++ /dev/null\n@@ -1 +0,0 @@\n-old\n"
        "diff --git a/new.sh b/new.sh\nnew file mode 100755\n--- /dev/null\n+++ b/new.sh\n@@ -0,0 +1 @@\n+#!/bin/sh"
    )
    patch = await read_patch(checkout, diff, "x.diff")
    assert patch.changes == (
        FileChange(path="a.py", text="x = 2\n"),
        FileChange(path="new.sh", text="#!/bin/sh\n", executable=True),
        FileChange(path="old.txt", text=None),
    )
    assert {name: (Path(checkout.root) / name).read_text() for name in FILES} == FILES
    again = await read_patch(checkout, patch.diff, "again")
    assert again == patch


@pytest.mark.parametrize(
    ("diff", "said"),
    [
        ("--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-y = 1\n+y = 2\n", "x.diff does not apply to"),
        ("no diff at all", "x.diff does not apply to"),
        ("diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+/etc\n", "is a link"),
        ("--- /dev/null\n+++ b/../out\n@@ -0,0 +1 @@\n+x\n", "x.diff does not apply"),
        ("--- /dev/null\n+++ b/.git/hooks/x\n@@ -0,0 +1 @@\n+x\n", "x.diff"),
        ("--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-x = 1\n+x = 1\n", "changes nothing"),
    ],
)  # fmt: skip
async def test_what_is_refused(checkout: Checkout, diff: str, said: str) -> None:
    with pytest.raises(CheckoutError, match=said):
        await read_patch(checkout, diff, "x.diff")
