"""The operator's settings: environment variables `TROOP_...`, or a `.env` file. Nothing here comes from a repository.

The part of a name behind `TROOP_` is the field's below, in capitals, for a nested one after that of its part:
`TROOP_SANDBOX_IMAGE`. Lists are words between spaces or commas. An empty variable counts as one that is not set.
What a repository may set for itself is `bot.repo_config`; `repository_may_set` says which of it is honoured.
"""

import json
import os
import re
from pathlib import Path
from typing import Annotated, Literal, TypeGuard
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, BeforeValidator, ByteSize, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings import SettingsError as Unparsable

from bot.errors import SettingsError


def _binary(size: object) -> object:
    """The size with Docker's units, where `2g`, `2gb` and `2gib` are all 2 * 1024 ** 3 bytes."""
    return re.sub(r"(?i)([kmgt])(i?b)?\s*$", r"\1ib", size) if isinstance(size, str) else size


def _words(value: object) -> object:
    """The items of a list: words, or a JSON list."""
    if not isinstance(value, str):
        return value
    return json.loads(value) if value.lstrip().startswith("[") else value.replace(",", " ").split()


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
Url = Annotated[str, Field(pattern=r"^(https?://\S+)?$")]
_SHORTEST_SECRET = 8  # characters; `none`, the key of a local endpoint, is a word
Overridable = Literal["test", "scripts", "context", "trajectories", "setup"]


class ModelSettings(BaseModel):
    """One model role. Env: `TROOP_MAIN_...` for the main one, `TROOP_RELEVANCE_...` for the reader of every file."""

    base_url: str = ""  # of an OpenAI-compatible API, e.g. http://127.0.0.1:8100/v1; empty: Troop's own engine
    api_key: SecretStr = SecretStr("none")
    name: str = ""  # empty: the first model that the endpoint lists
    context_window: int = Field(0, ge=0)  # tokens; 0: ask the endpoint, else 131,072
    tokenizer: str = ""  # folder of a tokenizer, for endpoints without /tokenize
    concurrency: int = Field(64, gt=0)  # calls under way at once
    timeout: float = Field(600.0, gt=0)  # seconds a call
    first_answer_timeout: float = Field(180.0, gt=0)  # seconds for the first answer of an endpoint
    retries: int = Field(4, ge=0)


class SolverSettings(BaseModel):
    """CodeMonkeys' defaults (arXiv 2501.14723, table in DESIGN.md). Env: `TROOP_SOLVER_...`."""

    profile: Literal["auto", "full", "compact"] = "auto"  # auto: compact for the bundled model, full for all others
    trajectories: int = Field(10, gt=0, le=4096)
    seed: int = 0
    token_budget: int = Field(0, ge=0)  # prompt and completion tokens of a run; 0: no limit
    # How files are chosen. listed: the model names from the list of paths what is read; read all: every file is read.
    context: Literal["listed", "read all"] = "listed"
    relevance_max_file_tokens: int = Field(100_000, gt=0)
    relevance_max_files: int = Field(2_000, gt=0)  # files that the relevance model reads, best lexical match first
    relevance_output_tokens: int = Field(4096, gt=0)
    relevance_temperature: float = Field(0.0, ge=0, le=2)
    rankings: int = Field(3, ge=0)  # 0: by the words that issue and files share
    context_tokens: int = Field(128_000, gt=0)  # at most; also bounded by the model's window
    test_calls: int = Field(8, gt=0)
    edit_calls: int = Field(8, gt=0)
    temperature: float = Field(0.5, ge=0, le=2)
    output_tokens: int = Field(16_384, gt=0)  # of one reply of a machine
    test_timeout: float = Field(100.0, gt=0)  # seconds
    matrix_seconds: float = Field(0.0, ge=0)  # for the whole matrix, the most informative tests first; 0: no limit
    own_tests_timeout: float = Field(900.0, gt=0)  # seconds, for the repository's own test command
    own_tests_candidates: int = Field(3, gt=0)  # the best-voted on which the repository's own tests run
    selection_top: int = Field(3, gt=0)
    selection_calls: int = Field(10, gt=0)
    selection_temperature: float = Field(0.0, ge=0, le=2)


class SandboxSettings(BaseModel):
    """Env: `TROOP_SANDBOX_...`."""

    kind: Literal["auto", "docker", "process"] = "auto"  # the server takes docker only
    image: str = "python:3.11-slim"  # of containers; must have what the tests need
    images_allowed: Words = ()  # images that a repository's config may name
    runtime: str = ""  # e.g. runsc
    concurrency: int = Field(0, ge=0)  # jobs at once; 0: one a processor
    memory: Annotated[ByteSize, BeforeValidator(_binary)] = ByteSize(2 << 30)  # of one job, e.g. 512m or 2g
    processors: float = Field(1.0, gt=0)
    pids: int = Field(256, gt=0)
    output_limit: int = Field(200_000, gt=0)  # bytes kept of one job's output
    setup_timeout: float = Field(1800.0, gt=0)  # seconds, for the build phase


class Settings(BaseSettings):
    """Everything. `read_settings()` reads the environment and `.env`; see `troop doctor`."""

    model_config = SettingsConfigDict(
        env_prefix="TROOP_",
        env_nested_delimiter="_",
        env_nested_max_split=1,
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
    )

    # -- GitHub
    github_url: Url = "https://api.github.com"  # GitHub Enterprise: https://HOST/api/v3
    github_web_url: Url = "https://github.com"
    github_write_seconds: float = Field(1.0, ge=0)  # between two writes of one process; GitHub asks for at least 1
    app_id: int = Field(0, ge=0)
    app_slug: str = "troop"  # our own login is `SLUG[bot]`
    private_key: SecretStr = SecretStr("")  # PEM text
    private_key_file: Path | None = None
    token: SecretStr = SecretStr("")  # instead of an App: a fine-grained token, preferably of a machine user
    token_login: str = ""  # that user's login, whose events are ignored; empty if a person uses the account, too
    webhook_secret: SecretStr = SecretStr("")
    webhook_secret_previous: SecretStr = SecretStr("")  # still valid while secrets rotate
    repositories: Words = ()  # allow-list of owner/name patterns; empty: all where the App is installed
    label: str = Field("troop", min_length=1, max_length=40)
    repository_may_set: Annotated[tuple[Overridable, ...], NoDecode, BeforeValidator(_words)] = (
        "test",
        "scripts",
        "context",
        "trajectories",
        "setup",
    )
    quota_runs_per_hour: int = Field(20, ge=0)  # a repository

    # -- the service
    database_url: str = "sqlite:///troop.sqlite3"
    redis_url: str = ""  # empty: the in-process queue
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65_535)
    pages: bool = False  # serve the status pages to everybody, not to this machine alone
    workers: int = Field(2, gt=0)  # runs at once in one process
    lease_seconds: float = Field(60.0, gt=0)  # a run whose worker is silent for this long is taken over
    sweep_seconds: float = Field(15.0, gt=0)
    max_crashes: int = Field(3, gt=0)  # a run that kills its worker this often is parked
    keep_days: float = Field(30.0, ge=4)  # deliveries and steps of ended runs; GitHub redelivers for 3 days
    work_dir: Path = Path("var")  # checkouts
    models_dir: Path = Path("var/models")  # where `troop models` puts what it fetches
    engine_model: str = ""  # for Troop's own engine, where no endpoint is set: a published model's name or a path
    engine_arguments: Words = ()  # of `troop engine`, beside the model, e.g. --dtype bfloat16
    checkout_max_bytes: int = Field(2_000_000_000, gt=0)
    checkout_timeout: float = Field(600.0, gt=0)  # seconds

    main: ModelSettings = ModelSettings()
    relevance: ModelSettings = ModelSettings()  # base_url empty: the main model reads the files too
    solver: SolverSettings = SolverSettings()
    sandbox: SandboxSettings = SandboxSettings()

    def own_login(self, *, as_app: bool) -> str:
        """Our own login on GitHub: the App's bot, or the token's user; empty where that one is not named."""
        return f"{self.app_slug}[bot]" if as_app else self.token_login

    def webhook_secrets(self) -> tuple[bytes, ...]:
        """The webhook secrets that are valid now: the current one, and the previous one while secrets rotate."""
        both = (self.webhook_secret, self.webhook_secret_previous)
        return tuple(secret.get_secret_value().encode() for secret in both if secret.get_secret_value())

    def secrets(self) -> tuple[str, ...]:
        """All secrets that are set, the private key's file included: none of them may appear in what Troop writes."""
        held = (
            self.private_key,
            self.token,
            self.webhook_secret,
            self.webhook_secret_previous,
            self.main.api_key,
            self.relevance.api_key,
        )
        values = [secret.get_secret_value() for secret in held]
        if self.private_key_file is not None and self.private_key_file.exists():
            values.append(self.private_key_file.read_text(errors="replace"))
        addresses = (self.main.base_url, self.relevance.base_url, self.database_url, self.redis_url, self.github_url)
        values += [unquote(password) for address in addresses if (password := _password_in(address))]
        return tuple(dict.fromkeys(value for value in values if len(value) >= _SHORTEST_SECRET))


def _password_in(address: str) -> str:
    try:
        return urlsplit(address).password or ""
    except ValueError:
        return ""


def read_settings() -> Settings:
    """Read the environment and `.env`. Raises `SettingsError`, which names each variable that can't be used."""
    try:
        return Settings()
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)  # the input may be a secret
        found = [f"{_variable(p['loc'])}: {p['msg'].removeprefix('Value error, ')}" for p in problems]
        raise SettingsError(f"{'; '.join(found)}: correct it in the environment or .env") from None
    except (Unparsable, OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{error}: correct it in the environment or .env") from None


def checked(settings: Settings, *, receives: bool = True, works: bool = True) -> Settings:
    """The settings as a server may use them. Raises `SettingsError` for what is missing or unsafe.

    A process that only `receives` deliveries needs no private key, one that only `works` needs no webhook secret.
    """
    if receives and not settings.webhook_secret.get_secret_value():
        raise SettingsError("TROOP_WEBHOOK_SECRET is empty; set it to the secret of the webhook in the App's settings")
    if settings.sandbox.kind == "process":
        raise SettingsError(
            "TROOP_SANDBOX_KIND=process runs code that strangers and models wrote without a container, which a server "
            "must not; install Docker and set TROOP_SANDBOX_KIND=docker"
        )
    token = bool(settings.token.get_secret_value())
    if not settings.app_id and not token:
        raise SettingsError(
            "neither an App nor a token is set; set TROOP_APP_ID and TROOP_PRIVATE_KEY_FILE, or TROOP_TOKEN"
        )
    key = settings.private_key_file
    if works and settings.app_id and not settings.private_key.get_secret_value() and not key:
        raise SettingsError("TROOP_APP_ID is set but no key; set TROOP_PRIVATE_KEY_FILE to the App's .pem file")
    if works and settings.app_id and key and not os.access(key, os.R_OK):
        raise SettingsError(f"TROOP_PRIVATE_KEY_FILE: {key} can't be read; does it exist, and may this user read it?")
    sandbox = settings.sandbox.model_copy(update={"kind": "docker"})  # `auto` must not fall back to processes
    return settings.model_copy(update={"sandbox": sandbox})


def _variable(place: tuple[int | str, ...]) -> str:
    return "_".join(("TROOP", *(part for part in place if isinstance(part, str)))).upper()


def unknown_variables() -> tuple[str, ...]:
    """Environment variables that begin with TROOP_ but are not settings."""
    prefix = "TROOP_"
    known = set()
    for name, field in Settings.model_fields.items():
        parts = field.annotation.model_fields if _is_part(field.annotation) else {}
        known |= {f"{prefix}{name}".upper(), *(f"{prefix}{name}_{part}".upper() for part in parts)}
    return tuple(sorted(name for name in os.environ if name.startswith(prefix) and name.upper() not in known))


def _is_part(annotation: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
