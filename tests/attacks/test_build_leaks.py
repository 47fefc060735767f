"""Attack 35: a repository's `setup` prints all that it finds, in Docker, and fails: what of it is read anywhere."""

import base64
import logging
import sqlite3
from pathlib import Path

import pytest
from pydantic import SecretStr

from bot.settings import ModelSettings, SandboxSettings
from tests.github.server import GitHubServer
from tests.integration.scenario import REPOSITORY, plant, script
from tests.integration.service import SECRET, running_service
from tests.scripted_endpoint import scripted_endpoint
from tests.services_docker import docker_address, sandbox_image

pytestmark = [pytest.mark.service, pytest.mark.slow]
__all__ = ["docker_address", "sandbox_image"]

PASSWORD, TOKEN = "k4narienVogel77", "canary0token9944xx"
ENVIRONMENT = (f"PIP_INDEX_URL=https://deploy:{PASSWORD}@pkgs.example/simple", f"NPM_TOKEN={TOKEN}")
PRINTS = """[sandbox]
setup = '''
env; tr '\\0' '\\n' </proc/self/environ; tr '\\0' '\\n' </proc/1/environ; cat /etc/hosts /proc/self/mountinfo
echo "$PIP_INDEX_URL" | cut -d: -f3 | cut -d@ -f1
for one in "$PIP_INDEX_URL" "$NPM_TOKEN"; do
    printf %s "$one" | base64 -w0; echo; printf %s "$one" | od -An -tx1; echo "$one" | sed 's/./& /g'
done
printf '\\033[31m%s\\033[0m%s\\n' "$(echo "$NPM_TOKEN" | cut -c1-9)" "$(echo "$NPM_TOKEN" | cut -c10-)"
exit 3
'''
"""


async def test_attack_35_what_a_build_prints_holds_no_secret(
    github: GitHubServer,
    sandbox_image: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("A_CANARY", "canary-of-the-environment")
    with scripted_endpoint(script, api_key="canary-of-the-model") as endpoint:
        model = ModelSettings(base_url=endpoint.base_url, api_key=SecretStr("canary-of-the-model"))
        sandbox = SandboxSettings(kind="docker", image=sandbox_image, build_environment=ENVIRONMENT)
        async with running_service(github, tmp_path, "", main=model, sandbox=sandbox) as service:
            number = plant(service.github)
            service.github.commit(REPOSITORY, {".troop.toml": PRINTS})
            assert await service.label_and_wait(REPOSITORY, number) == ["troop: failed"]
            told = "\n".join(service.github.comments(REPOSITORY, number))
    assert "exit code 3" in told
    assert "[redacted]" in told, "what it printed is shown"
    with sqlite3.connect(tmp_path / "service.sqlite3") as database:
        stored = "\n".join(database.iterdump())
    database.close()
    key = github.private_key.splitlines()[1]
    for secret in (PASSWORD, TOKEN, SECRET, key, "canary-of-the-model", "canary-of-the-environment"):
        encoded = secret.encode()
        for form in (secret, " ".join(secret), base64.b64encode(encoded).decode().rstrip("=")[:-1], encoded.hex(" ")):
            for place, text in (("GitHub", told), ("database", stored), ("log", caplog.text)):
                assert form not in text, (place, form)
