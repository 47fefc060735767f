from pathlib import Path

import openai
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from bot.errors import SettingsError
from bot.llm.token_count import TokenCounter, estimate
from tests.scripted_endpoint import ScriptedEndpoint, scripted_endpoint


def silent(key: str, messages: object) -> str:
    return ""


def client(endpoint: ScriptedEndpoint) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=endpoint.base_url, api_key="none", max_retries=0)


async def test_the_endpoint_counts_and_is_asked_once_a_text() -> None:
    with scripted_endpoint(silent) as endpoint:
        async with client(endpoint) as api:
            counter = TokenCounter(api)
            assert [await counter.count("scripted", text) for text in ("a" * 40, "", "a" * 40, "b")] == [10, 0, 10, 1]
    assert endpoint.counted == ["a", "a" * 40, "b"]  # the first finds the address


async def test_an_estimate_where_the_endpoint_does_not_count() -> None:
    with scripted_endpoint(silent, tokenize=False) as endpoint:
        async with client(endpoint) as api:
            counter = TokenCounter(api)
            assert await counter.count("scripted", "a" * 40) == 14
            assert await counter.count("scripted", "\ud800") == 1  # a lone surrogate can't be sent
    assert estimate("ä" * 3) == 2
    assert estimate("") == 0


async def test_a_local_tokenizer_is_asked_first(tmp_path: Path) -> None:
    tokenizer = tokenizers.Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with scripted_endpoint(silent) as endpoint:
        async with client(endpoint) as api:
            assert await TokenCounter(api, str(tmp_path)).count("scripted", "a b c a") == 4
            assert endpoint.counted == []
            with pytest.raises(SettingsError, match="TOKENIZER"):
                TokenCounter(api, str(tmp_path / "nothing"))
