"""The two models of a run: the main one, and the one that reads files for relevance."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bot.contracts import Model
from bot.errors import EndpointDown
from bot.llm.client import OpenAIModel
from bot.settings import Settings

_ASKED_AGAIN = 5.0  # seconds until an endpoint that is down is asked again


@dataclass(frozen=True)
class Models:
    """The two roles, connected."""

    main: Model
    relevance: Model


@asynccontextmanager
async def open_models(
    settings: Settings,
    default_base_url: str = "",
    user: str | None = None,
    *,
    patience: float = 0.0,
    tell: Callable[[str], None] = lambda words: None,
) -> AsyncIterator[Models]:
    """The models that the settings name, connected; `user` names the run to them.

    An endpoint that is down is waited for, `patience` seconds at most; `tell` gets what is waited for. Raises
    `EndpointError`, `EndpointDown`.
    """
    main = OpenAIModel(settings.main, "main", default_base_url, user)
    relevance = OpenAIModel(settings.relevance, "relevance", user=user) if settings.relevance.base_url else main
    until = time.monotonic() + patience
    try:
        for model in (main, relevance):
            await _connect(model, until, tell)
        yield Models(main, relevance)
    finally:
        await main.close()
        await relevance.close()


async def _connect(model: OpenAIModel, until: float, tell: Callable[[str], None]) -> None:
    while True:
        try:
            return await model.connect()
        except EndpointDown as error:
            if time.monotonic() >= until:
                raise
            tell(f"{error}; the run goes on as soon as it answers")
        await asyncio.sleep(_ASKED_AGAIN)
