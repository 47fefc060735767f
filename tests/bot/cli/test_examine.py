"""`troop doctor --model`: the table of what a model is able to."""

from pathlib import Path

import pytest

from bot.cli.examine import examine_model
from tests.bot.llm.test_examination import able
from tests.scripted import Mode
from tests.scripted_endpoint import scripted_endpoint


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


async def test_the_table_says_what_was_found_what_it_cost_and_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with scripted_endpoint(able("define", "diff", corrects=False)) as endpoint:
        endpoint.listed = {"device": "cpu"}
        monkeypatch.setenv("TROOP_MAIN_BASE_URL", endpoint.base_url)
        assert await examine_model("scripted", again=False, print_line=said.append) == 0
        text = "\n".join(said)
        assert "edits in SEARCH/REPLACE blocks      0 of 4" in text
        assert "edits as whole definitions          4 of 4    <- asked for" in text
        assert "failed attempts are drawn anew" in text
        assert f"{len(endpoint.requests)} calls" in text
        asked = len(endpoint.requests)
        said.clear()
        assert await examine_model("scripted", again=False, print_line=said.append) == 0
        assert len(endpoint.requests) == asked
        assert "kept from an earlier examination" in said[-1]


async def test_an_endpoint_without_answers_and_the_bundled_model(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with scripted_endpoint(able(), name="capuchin", context_window=2048) as endpoint:
        monkeypatch.setenv("TROOP_MAIN_BASE_URL", endpoint.base_url)
        assert await examine_model("capuchin", again=True, print_line=said.append) == 0
        assert "not examined" in said[1]
        assert not endpoint.requests
    with scripted_endpoint(able(), mode=Mode.ERROR) as endpoint:
        monkeypatch.setenv("TROOP_MAIN_BASE_URL", endpoint.base_url)
        monkeypatch.setenv("TROOP_MAIN_RETRIES", "0")
        assert await examine_model("scripted", again=False, print_line=said.append) == 1
        assert "without an answer" in said[-1]
