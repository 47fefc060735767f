"""Models whose endpoint is down are waited for."""

import itertools

import pytest

from bot.errors import EndpointDown
from bot.settings import ModelSettings, Settings
from bot.solver.models import open_models
from tests.scripted import rules
from tests.scripted_endpoint import scripted_endpoint

SCRIPT = rules([])


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.solver.models._ASKED_AGAIN", 0.0)


async def test_a_run_begins_as_soon_as_its_endpoint_answers(at_once: None) -> None:
    told: list[str] = []
    with scripted_endpoint(SCRIPT) as endpoint:
        answers = itertools.chain([502, 502, 503], itertools.repeat(0))
        endpoint.away = lambda: next(answers)
        settings = Settings(_env_file=None, main=ModelSettings(base_url=endpoint.base_url, retries=0))
        async with open_models(settings, patience=3600.0, tell=told.append) as models:
            assert models.main.name == "scripted"
    assert len(told) == 3
    assert "HTTP 502" in told[0]
    assert told[0].endswith("the run goes on as soon as it answers")


async def test_an_endpoint_is_not_waited_for_where_nobody_asks_for_that() -> None:
    with scripted_endpoint(SCRIPT) as endpoint:
        endpoint.away = lambda: 502
        settings = Settings(_env_file=None, main=ModelSettings(base_url=endpoint.base_url, retries=0))
        with pytest.raises(EndpointDown, match="TROOP_MAIN_BASE_URL"):
            async with open_models(settings):
                pytest.fail("it was opened")
