"""What a server talks to besides GitHub and Docker: the database, Redis, the model's endpoint."""

import asyncio
import contextlib
import importlib.util
import sqlite3
from pathlib import Path
from typing import Literal

from bot.errors import EndpointDown, EndpointError, ModelMissing
from bot.llm.client import OpenAIModel
from bot.llm.published_models import locate
from bot.preflight.finding import Finding
from bot.settings import ModelSettings, Settings
from bot.settings.credentials import WRITE_SO, masked, masked_address
from bot.store.disk import unwritable_sqlite

_SECONDS = 10.0  # for an answer
_REDIS = (
    "it is redis://HOST:PORT/0, rediss://... with TLS, or unix:///SOCKET, each with :PASSWORD@ before the host; "
    f"{WRITE_SO}"
)


async def database(settings: Settings) -> list[Finding]:
    """Whether it can be reached. A SQLite file is not made."""
    return [await asyncio.to_thread(_database, settings)]


def _database(settings: Settings) -> Finding:
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    from bot.errors import SettingsError, TroopError
    from bot.store.database import Database, database_url

    name, hint = "database", "check TROOP_DATABASE_URL"
    try:
        url = database_url(settings.database_url)
        if url.get_backend_name() == "sqlite":
            if trouble := _sqlite(Path(str(url.database)).absolute()):
                return Finding.missing(name, trouble, hint)
            return Finding.ok(name, f"SQLite, {url.database}")
        reached = Database(settings.database_url)
        try:
            with reached.read() as connection:
                connection.execute(text("SELECT 1"))
        finally:
            reached.close()
    except SettingsError as error:
        return Finding.missing(name, str(error), hint, fatal=True)
    except (TroopError, SQLAlchemyError, ImportError) as error:
        return Finding.missing(name, _first_line(error, settings), hint)
    return Finding.ok(name, masked_address(url.render_as_string(hide_password=True)))


def _first_line(error: Exception, settings: Settings) -> str:
    return masked(str(error), (settings.database_url,)).splitlines()[0][:300]


def _sqlite(file: Path) -> str:
    """What is wrong with the file, or with where it is to be. It is only read."""
    if trouble := unwritable_sqlite(file):
        return trouble
    if file.exists():
        try:
            with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
                connection.execute("PRAGMA schema_version")
        except sqlite3.DatabaseError as error:
            return f"{file} can't be used: {error}"
    return ""


async def queue(settings: Settings) -> list[Finding]:
    """Redis."""
    if not settings.redis_url:
        return [Finding.ok("redis", "not set: the in-process queue is used")]
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    try:
        async with Redis.from_url(settings.redis_url, socket_connect_timeout=5, socket_timeout=5) as client:
            await client.ping()
    except (ValueError, TypeError) as error:  # of the address
        words = f"TROOP_REDIS_URL can't be used: {masked(str(error), (settings.redis_url,))}"
        return [Finding.missing("redis", words, _REDIS, fatal=True)]
    except (RedisError, OSError) as error:
        words = f"Redis does not answer: {masked(str(error), (settings.redis_url,))[:200]}"
        return [Finding.missing("redis", words, "start it, or correct TROOP_REDIS_URL")]
    return [Finding.ok("redis", "answers")]


async def endpoint(settings: Settings) -> list[Finding]:
    """The models' endpoints, or Troop's own engine."""
    url = settings.main.base_url
    if url:
        found = [await _models("model endpoint", settings, "main")]
    elif settings.engine_model:
        found = [_own_engine(settings)]
    else:
        found = [Finding.ok("model endpoint", "not set: Troop's own engine serves the bundled toy model")]
    if not url and importlib.util.find_spec("torch") is None:
        words = "not set, and Troop's own engine needs torch, which is not installed here"
        found = [Finding.missing("model endpoint", words, "set TROOP_MAIN_BASE_URL")]
    if settings.relevance.base_url:
        found.append(await _models("relevance endpoint", settings, "relevance"))
    return found


def _own_engine(settings: Settings) -> Finding:
    name = "model endpoint"
    try:
        path = locate(settings.engine_model, settings.models_dir)
    except ModelMissing as error:
        return Finding.missing(name, str(error), "check TROOP_ENGINE_MODEL and TROOP_MODELS_DIR")
    return Finding.ok(name, f"not set: Troop's own engine serves {path}")


async def _models(name: str, settings: Settings, role: Literal["main", "relevance"]) -> Finding:
    """By what a run does first."""
    brief = {"retries": 0, "timeout": _SECONDS, "first_answer_timeout": _SECONDS}
    own: ModelSettings = getattr(settings, role)
    model = OpenAIModel(own.model_copy(update=brief), role)
    try:
        await model.connect()
    except (EndpointError, EndpointDown) as error:
        return Finding.missing(name, str(error))  # it names the variable
    finally:
        await model.close()
    if trouble := settings.spending.unpriced(model.name):
        return Finding.missing(name, trouble)
    where = masked_address(model.base_url)
    if model.listed and model.name not in model.listed:
        detail = f"{where} does not list {model.name}, but {', '.join(model.listed[:5])}"
        hint = f"correct TROOP_{role.upper()}_NAME, unless the endpoint knows more names than it lists"
        return Finding.optional(name, detail, hint)
    return Finding.ok(name, f"{where} serves {model.name}")
