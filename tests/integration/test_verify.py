"""A pull request's count, made again by a stranger with the command that the pull request names."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.github.fixtures import github, github_server
from tests.github.repository import environment
from tests.github.server import GitHubServer
from tests.integration.scenario import REPOSITORY, plant, script
from tests.integration.service import running_service
from tests.scripted_endpoint import scripted_endpoint

__all__ = ["github", "github_server"]

pytestmark = pytest.mark.slow


def shell(command: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    env = environment(PYTHONPATH=str(Path(__file__).parents[2]))
    return subprocess.run(["sh", "-ec", command], cwd=cwd, env=env, capture_output=True, text=True)


def forge(bundle: dict[str, Any]) -> None:
    """What the numbers would have to say otherwise, all at once."""
    verdict = bundle["verdict"]
    ballot = verdict["ballot"]
    ballot["cells"][0][0] ^= True
    ballot["candidates"][0]["patch"]["diff"] += "+# harmless\n"
    change = {"path": "tests/test_num.py", "text": "", "executable": False, "encoding": "utf-8"}
    ballot["candidates"][1]["patch"]["changes"].append(change)
    verdict["winner"] = 1
    verdict["choice"]["rule"] = "only credible"


async def test_a_stranger_counts_again(github: GitHubServer, tmp_path: Path) -> None:
    with scripted_endpoint(script) as endpoint:
        async with running_service(github, tmp_path, endpoint.base_url) as service:
            await service.label_and_wait(REPOSITORY, plant(github))
    (pull,) = github.pull_requests(REPOSITORY)
    (command,) = re.findall(r"^git fetch .*\| troop verify -$", pull["body"], re.MULTILINE)
    url = pull["base"]["repo"]["clone_url"]
    assert shell(f"git clone --quiet {url} clone", tmp_path).returncode == 0
    clone = tmp_path / "clone"
    troop = f"{Path(sys.executable).parent}/troop"
    fetched = command.removesuffix(" | troop verify -")
    done = shell(f"{fetched} | tee {tmp_path}/bundle.json | {troop} verify - --json --sandbox process", clone)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["same"], found["differences"], found["same_winner"]) == (True, [], True)
    assert found["cells"] == 4 * 3, "four tests on two candidates and on the base commit"
    bundle = json.loads((tmp_path / "bundle.json").read_text())
    forge(bundle)
    (tmp_path / "forged.json").write_text(json.dumps(bundle))
    done = shell(f"{troop} verify --sandbox process --repo {clone} forged.json", tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    for words in (
        "T1 on candidate",
        "diff of candidate",
        "disqualification of candidate",
        "1 differ",
        "the bundle says candidate",
    ):
        assert words in done.stdout, (words, done.stdout)
    refs = github.world.repository(REPOSITORY).git.git("for-each-ref", "--format=%(refname)", "refs/troop").split()
    assert len(refs) == 1
    assert "refs/troop" not in shell("git for-each-ref", clone).stdout, "no clone has it"
