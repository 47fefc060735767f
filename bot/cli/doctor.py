"""`troop doctor`: what this machine lacks, and how to get it. Each check returns a value and changes nothing."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import httpx

from bot.errors import ModelMissing, SandboxUnavailable, SettingsError
from bot.llm.published_models import CATALOGUE, locate
from bot.settings import Settings, misspelt, read_settings

Level = Literal["ok", "optional", "missing"]


@dataclass(frozen=True)
class Finding:
    """One thing that Troop uses. `missing`: it is needed to solve issues. `optional`: it enables something more.

    `hint`: how to get it, or more of it.
    """

    name: str
    level: Level
    detail: str
    hint: str = ""


def examine() -> Iterator[Finding]:
    """All findings, in the order in which a newcomer meets them."""
    for check in (_python, _git, _torch, _model, _docker, _namespaces):
        yield check()
    try:
        settings = read_settings()
    except SettingsError as error:
        yield Finding("settings", "missing", str(error))
        return
    if wrong := misspelt():
        yield Finding("settings", "missing", "; ".join(wrong), "docs/settings.md lists every variable")
    else:
        yield Finding("settings", "ok", "read from the environment and .env")
    for of_settings in (_published, _endpoint, _database, _redis, _github):
        yield of_settings(settings)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    return Finding("python", "ok" if good else "missing", version, "" if good else "install Python 3.11 or newer")


def _git() -> Finding:
    path = shutil.which("git")
    if path is None:
        return Finding("git", "missing", "not found", "install git, e.g. apt-get install git")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return Finding("git", "ok", version)


def _torch() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding("torch", "missing", "not installed", "make install, or pip install 'torch>=2.11'")
    import torch

    where = torch.cuda.get_device_name(0) if torch.cuda.is_available() else f"CPU, {os.cpu_count()} processors"
    return Finding("torch", "ok", f"{torch.__version__} on {where}")


def _model() -> Finding:
    spec = importlib.util.find_spec("engine")
    for folder in (spec.submodule_search_locations if spec is not None else None) or ():
        path = os.path.join(folder, "checkpoints", "capuchin", "model.safetensors")
        if os.path.exists(path):
            return Finding("bundled model", "ok", f"Capuchin, {os.path.getsize(path) / 1e6:.0f} MB")
    return Finding("bundled model", "missing", "no checkpoint in engine/checkpoints", "make capuchin trains it again")


def _docker() -> Finding:
    hint = "install Docker Engine and give this user access; until then `troop solve` uses the process sandbox"
    from bot.sandbox.docker_engine import TROUBLE, connect

    try:
        client = connect()
    except SandboxUnavailable as error:
        return Finding("docker", "optional", str(error), hint)
    try:
        return Finding("docker", "ok", f"Docker Engine {client.version()['Version']}")
    except TROUBLE as error:
        return Finding("docker", "optional", f"the daemon does not answer: {error}", hint)
    finally:
        client.close()


def _namespaces() -> Finding:
    argv = ["unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "true"]
    try:
        works = subprocess.run(argv, capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        works = False
    if works:
        return Finding("namespaces", "ok", "the process sandbox can isolate tests from the network")
    detail = "the process sandbox can't isolate tests from the network"
    return Finding("namespaces", "optional", detail, "use Docker, or allow unprivileged user namespaces")


def _published(settings: Settings) -> Finding:
    folder = settings.models_dir
    here = [one.name for one in CATALOGUE if one.is_in(folder)]
    there = f"{', '.join(here)} in {folder}" if here else f"none in {folder}; the bundled one is used"
    missing = [f"{one.name} ({one.size / 1e6:,.1f} MB)" for one in CATALOGUE if one.name not in here]
    hint = f"`make models` or `troop models` fetches {', '.join(missing)}" if missing else ""
    return Finding("published models", "ok", there, hint)


def _endpoint(settings: Settings) -> Finding:
    url = settings.main.base_url
    if not url and settings.engine_model:
        try:
            path = locate(settings.engine_model, settings.models_dir)
        except ModelMissing as error:
            return Finding("model endpoint", "missing", str(error), "check TROOP_ENGINE_MODEL and TROOP_MODELS_DIR")
        return Finding("model endpoint", "ok", f"not set: Troop's own engine serves {path}")
    if not url:
        return Finding("model endpoint", "ok", "not set: Troop's own engine serves the bundled toy model")
    try:
        key = settings.main.api_key.get_secret_value()
        answer = httpx.get(f"{url.rstrip('/')}/models", headers={"Authorization": f"Bearer {key}"}, timeout=10)
        answer.raise_for_status()
        names = ", ".join(str(model["id"]) for model in answer.json()["data"][:5])
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        return Finding(
            "model endpoint", "missing", f"{url}: {error}", "check TROOP_MAIN_BASE_URL and TROOP_MAIN_API_KEY"
        )
    return Finding("model endpoint", "ok", f"{url} serves {names}")


def _database(settings: Settings) -> Finding:
    from sqlalchemy import create_engine, make_url, text
    from sqlalchemy.exc import SQLAlchemyError

    try:
        url = make_url(settings.database_url)
        if url.get_backend_name() == "sqlite":  # connecting would create the file
            folder = os.path.dirname(os.path.abspath(url.database or "."))
            if os.access(folder, os.W_OK):
                return Finding("database", "ok", f"SQLite, {url.database}")
            return Finding("database", "missing", f"{folder} can't be written", "set TROOP_DATABASE_URL")
        engine = create_engine(url)
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        engine.dispose()
    except (SQLAlchemyError, ImportError) as error:
        return Finding("database", "missing", str(error).splitlines()[0], "check TROOP_DATABASE_URL")
    return Finding("database", "ok", url.render_as_string(hide_password=True))


def _redis(settings: Settings) -> Finding:
    if not settings.redis_url:
        return Finding("redis", "ok", "not set: the in-process queue is used")
    import redis

    try:
        client = redis.Redis.from_url(settings.redis_url, socket_connect_timeout=5)
        client.ping()
        client.close()
    except (redis.RedisError, OSError, ValueError) as error:
        return Finding("redis", "missing", str(error), "check TROOP_REDIS_URL")
    return Finding("redis", "ok", "answers")


def _github(settings: Settings) -> Finding:
    hint = "set TROOP_APP_ID and TROOP_PRIVATE_KEY (or _FILE), or TROOP_TOKEN; README, section GitHub"
    credentials = bool(settings.token.get_secret_value()) or (
        settings.app_id > 0 and bool(settings.private_key.get_secret_value() or settings.private_key_file)
    )
    if not credentials:
        return Finding("GitHub", "optional", "neither an App nor a token is set", hint)
    key = settings.private_key_file
    if settings.app_id and key and not os.access(key, os.R_OK):
        return Finding("GitHub", "missing", f"{key} can't be read", "set TROOP_PRIVATE_KEY_FILE to the App's .pem file")
    if not settings.webhook_secret.get_secret_value():
        return Finding("GitHub", "optional", "credentials are set, but no webhook secret", "set TROOP_WEBHOOK_SECRET")
    return Finding("GitHub", "ok", settings.github_url)


def report(print_line: Callable[[str], None]) -> int:
    """Print all findings; 0 if nothing is missing, else 1."""
    marks = {"ok": "ok      ", "optional": "optional", "missing": "MISSING "}
    missing = 0
    for finding in examine():
        missing += finding.level == "missing"
        print_line(f"{marks[finding.level]}  {finding.name:<16} {finding.detail}")
        if finding.hint:
            print_line(f"{'':<27}-> {finding.hint}")
    return 1 if missing else 0
