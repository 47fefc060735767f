"""Counts the tokens of a text.

Uses the first of: a local tokenizer (`ModelSettings.tokenizer`); the endpoint's `/tokenize`, at the server's root or
below `/v1` (Troop's engine and vLLM: `POST {"model", "prompt"} -> {"count"}`); an estimate of one token for every three
bytes of UTF-8. Code has 3 to 4 bytes per token in current vocabularies, so the estimate is usually too high.
"""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import openai
import tokenizers

from bot.errors import SettingsError

BYTES_PER_TOKEN = 3  # of the estimate; nearly always more in fact
_CACHE_SIZE = 50_000  # counts kept


def estimate(text: str) -> int:
    """Tokens: bytes / 3, rounded up. Pure."""
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)


class TokenCounter:
    """Counts for one model, with a cache. Safe to call concurrently."""

    def __init__(self, client: openai.AsyncOpenAI, folder: str = "") -> None:
        """`folder`: one that holds a `tokenizer.json`, or that file. Raises `SettingsError` if it can't be read."""
        self._client = client
        self._local = _load(folder) if folder else None
        self._url: str | None = ""  # of the endpoint's `/tokenize`; "": not yet looked for; None: it has none
        self._counts: dict[bytes, int] = {}
        self._lock = asyncio.Lock()  # held while looking for it

    @property
    def exact(self) -> bool:
        """Whether the last counts are the model's own, not estimates."""
        return self._local is not None or bool(self._url)

    async def count(self, model: str, text: str) -> int:
        """Tokens of the text, without special tokens if the tokenizer is local. Endpoint errors lead to an estimate."""
        if not text:
            return 0
        digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
        known = self._counts.get(digest)
        if known is not None:
            return known
        if self._local is not None:
            count = len(self._local.encode(text, add_special_tokens=False).ids)
        else:
            asked = await self._ask(model, text)
            if asked is None:
                return estimate(text)  # not cached: the endpoint may answer the next time
            count = asked
        if len(self._counts) >= _CACHE_SIZE:
            self._counts.clear()
        self._counts[digest] = count
        return count

    async def _ask(self, model: str, text: str) -> int | None:
        if self._url == "":
            async with self._lock:
                if self._url == "":
                    self._url = await self._find(model)
        if self._url is None:
            return None
        try:
            return _count_in(await self._post(self._url, model, text))
        except (openai.OpenAIError, ValueError):
            return None

    async def _find(self, model: str) -> str | None:
        base = str(self._client.base_url).rstrip("/")
        root = base.removesuffix("/v1")
        for url in dict.fromkeys((f"{root}/tokenize", f"{base}/tokenize")):
            try:
                if _count_in(await self._post(url, model, "a")) is not None:
                    return url
            except (openai.OpenAIError, ValueError):
                continue
        return None

    async def _post(self, url: str, model: str, text: str) -> object:
        # lone surrogates can't be encoded
        body = {"model": model, "prompt": text.encode("utf-8", "replace").decode()}
        return await self._client.post(url, body=body, cast_to=object, options={"timeout": 20.0, "max_retries": 0})


def _count_in(answer: Any) -> int | None:
    count = answer.get("count") if isinstance(answer, dict) else None
    return count if isinstance(count, int) and count >= 0 else None


def _load(folder: str) -> tokenizers.Tokenizer:
    path = Path(folder)
    path = path / "tokenizer.json" if path.is_dir() else path
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise SettingsError(
            f"the tokenizer {path} can't be read ({error}): let TROOP_MAIN_TOKENIZER name a folder with a "
            "tokenizer.json, or leave it empty"
        ) from error
