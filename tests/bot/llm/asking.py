"""Asks a model behind a scripted endpoint."""

from typing import Any

from bot.llm.client import OpenAIModel
from bot.records import Message, ModelCall, Reply
from bot.settings import ModelSettings
from tests.scripted_endpoint import ScriptedEndpoint

HELLO = (Message(role="system", content="be brief"), Message(role="user", content="say hello"))


def greeting(key: str = "k", max_tokens: int = 9, temperature: float = 0.5, **options: Any) -> ModelCall:
    return ModelCall(key=key, messages=HELLO, max_tokens=max_tokens, temperature=temperature, **options)


def model_for(endpoint: ScriptedEndpoint, **settings: object) -> OpenAIModel:
    return OpenAIModel(ModelSettings(**{"base_url": endpoint.base_url, **settings}), "main")


async def ask(model: OpenAIModel, **options: Any) -> Reply:
    try:
        return await model.reply(greeting("a/b c", **{"max_tokens": 100, "seed": 7, **options}))
    finally:
        await model.close()


def hello(key: str, messages: object) -> str:
    return "hello"
