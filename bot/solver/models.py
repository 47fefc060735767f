"""The two models of a run: the main one, and the one that reads files for relevance."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bot.contracts import Model
from bot.llm.client import OpenAIModel
from bot.settings import Settings


@dataclass(frozen=True)
class Models:
    """The two roles, connected."""

    main: Model
    relevance: Model


@asynccontextmanager
async def open_models(settings: Settings, default_base_url: str = "", user: str | None = None) -> AsyncIterator[Models]:
    """The models that the settings name, connected; `user` names the run to them. Raises `EndpointError`."""
    main = OpenAIModel(settings.main, "main", default_base_url, user)
    relevance = OpenAIModel(settings.relevance, "relevance", user=user) if settings.relevance.base_url else main
    try:
        await main.connect()
        await relevance.connect()
        yield Models(main, relevance)
    finally:
        await main.close()
        await relevance.close()
