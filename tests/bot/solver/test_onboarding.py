"""What is found in a repository, and what running its tests says."""

from pathlib import Path

from bot.publish.messages.onboarding import config_text
from bot.records import Checkout
from bot.settings import SandboxSettings, Settings
from bot.solver.onboarding import propose

FILES = {
    "pyproject.toml": '[project]\nname = "mill"\nversion = "1"\n[project.optional-dependencies]\ntest = ["pytest"]\n',
    "mill.py": "def one():\n    return 1\n",
    "tests/test_mill.py": "from mill import one\n\n\ndef test_one():\n    assert one() == 1\n",
}


async def test_a_repository_is_looked_at_and_its_tests_are_run(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    for path, text in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    checkout = Checkout(root=str(root), workspace=str(tmp_path), commit="0" * 40, files=tuple(sorted(FILES)))
    settings = Settings(_env_file=None, sandbox=SandboxSettings(kind="process"))
    proposal = await propose(checkout, settings)
    assert "pyproject.toml" in proposal.found
    assert any("pip install" in line for line in proposal.commands)
    assert proposal.tests.command
    assert proposal.tests.base is not None
    assert proposal.tests.base.execution.passed
    assert "pytest" in config_text(proposal)
