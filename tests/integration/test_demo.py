"""The first command of the README: `make demo` runs it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def test_a_demo_ends_with_a_pull_request_that_passes_the_hidden_check() -> None:
    """With the bundled model and embedded defaults; another port for each part, so that it may run beside others."""
    command = "from bot.cli.start import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", command, "demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=3 * PATIENCE,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert "This is candidate" in done.stdout
    assert "s] tests run as " in done.stdout
    assert not done.stderr
