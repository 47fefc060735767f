"""What is written on issues names no address of the operator's network."""

import pytest

from bot.sanitize.addresses import HIDDEN, hide_addresses
from bot.settings import ModelSettings, Settings

SETTINGS = Settings(
    _env_file=None,
    github_url="https://ghes.example/api/v3",
    main=ModelSettings(base_url="http://engine:8100/v1"),
    relevance=ModelSettings(base_url="https://llm.corp.internal/v1"),
    database_url="postgresql://troop:pw@db.corp.internal:5432/troop",
    redis_url="redis://redis:6379/0",
)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("the model endpoint http://engine:8100/v1 can't be reached", f"the model endpoint {HIDDEN} can't be reached"),
        ("(HTTPConnectionPool(host='10.0.0.7', port=80))", f"(HTTPConnectionPool(host='{HIDDEN}', port=80))"),
        ("Redis at redis:6379 is away", f"Redis at {HIDDEN} is away"),
        ("llm.corp.internal: Name or service not known", f"{HIDDEN}: Name or service not known"),
        ("LLM.corp.internal:8443 refused", f"{HIDDEN} refused"),
        ("dial tcp 192.168.1.4:2376: refused", f"dial tcp {HIDDEN}: refused"),
        ("dial tcp [fd00::1]:2376: refused", f"dial tcp {HIDDEN}: refused"),
        ("at unix:///run/user/1000/docker.sock, stopped", f"at {HIDDEN}, stopped"),
        ("see https://ghes.example/octo/repo/pull/1.", "see https://ghes.example/octo/repo/pull/1."),
        ("set TROOP_MAIN_BASE_URL", "set TROOP_MAIN_BASE_URL"),
        ("mod.py:12: in f, version 3.11.7, at 12:30:01", "mod.py:12: in f, version 3.11.7, at 12:30:01"),
        ("the engine is away", "the engine is away"),
    ],
)
def test_only_github_is_named(text: str, left: str) -> None:
    assert hide_addresses(text, SETTINGS) == left
