"""The operator's settings as pydantic models. Each field's docstring is its line in docs/settings.md.

The part of a variable's name behind `TROOP_` is the field's below, in capitals, for a nested one after that of its
part: `TROOP_SANDBOX_IMAGE`. Lists are words between spaces or commas. An empty variable counts as one that is not set.
What a repository may set for itself is `bot.repo_config`; `repository_may_set` says which of it is honoured.
"""

import contextlib
import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal
from urllib.request import getproxies

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from bot.records import StopName, Trigger
from bot.settings.credentials import credentials_in, secret_assignment
from bot.settings.endpoints import HeaderSecret, ModelSettings
from bot.settings.files import FileSource, with_files
from bot.settings.github_addresses import github_addresses
from bot.settings.image_names import image_name
from bot.settings.lists import LISTED
from bot.settings.pages import PagesSettings, web_address
from bot.settings.spending import SpendingSettings


def _binary(size: object) -> object:
    """The size with Docker's units, where `2g`, `2gb` and `2gib` are all 2 * 1024 ** 3 bytes."""
    return re.sub(r"(?i)([kmgt])(i?b)?\s*$", r"\1ib", size) if isinstance(size, str) else size


Words = Annotated[tuple[str, ...], NoDecode, LISTED]
Url = Annotated[str, AfterValidator(web_address)]


def _network(word: str) -> str:
    try:
        ipaddress.ip_network(word, strict=False)
    except ValueError as error:
        raise ValueError(f"{word!r} is neither an IP address nor a network like 10.1.0.0/16") from error
    return word


def _assignment(word: str) -> str:
    if not re.match(r"[A-Za-z_][A-Za-z0-9_]*=", word):
        raise ValueError(f"{word.partition('=')[0]!r} is not of the form NAME=VALUE")
    return word


def _app_number(value: object) -> object:
    if isinstance(value, str) and value.strip() and not value.strip().isdecimal():
        kind = "the client id" if value.strip().startswith("Iv") else "no number"
        raise ValueError(f"is {kind}, and wants the App ID, a number that stands above it in the App's settings")
    return value


def _bot(word: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*\[bot\]", word):
        raise ValueError(f"{word!r} is not the login of a bot; they look like renovate[bot]")
    return word


Bots = Annotated[tuple[Annotated[str, AfterValidator(_bot)], ...], NoDecode, LISTED]
Networks = Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], NoDecode, LISTED]
Assignments = Annotated[tuple[Annotated[str, AfterValidator(_assignment)], ...], NoDecode, LISTED]
_SHORTEST_TOKEN = 16  # characters of the admin's
_SHORTEST_SECRET = 8  # characters; `none`, the key of a local endpoint, is a word
Overridable = Literal["base", "test", "scripts", "context", "trajectories", "setup"]


class SolverSettings(BaseModel):
    """CodeMonkeys' defaults (arXiv 2501.14723). Env: `TROOP_SOLVER_...`."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    profile: Literal["auto", "full", "compact"] = "auto"
    """Which prompts; auto: compact for the bundled model, full for all others."""
    trajectories: int = Field(10, gt=0, le=4096)
    """Attempts at an issue; a repository may ask for another number."""
    stop: Literal["auto", StopName] = "auto"
    """By which rule fewer attempts are made (docs/science.md); auto: posterior if `stop_at` is below 1, else none."""
    stop_at: float = Field(1.0, gt=0, le=1)
    """With `posterior`: the probability that the winner is right, asked after 8, 16, 32, ... attempts; 1: never."""
    stop_new: float = Field(0.5, ge=0)
    """With `discovery`: attempts end where all that are left would make fewer new patches than this, as estimated."""
    stop_alike: int = Field(6, gt=0)
    """With `consensus`: attempts that behave alike, with a vote for them, asked after every four attempts."""
    stop_first: int = Field(8, gt=0)
    """With `short-m`: so many attempts that end first with a patch are counted, the others broken off."""
    seed: int = 0
    """Of the sampling."""
    token_budget: int = Field(0, ge=0)
    """Prompt and completion tokens of a run; 0: no limit."""
    context: Literal["listed", "read all"] = "listed"
    """How files are chosen; listed: the model names them from a list of paths; read all: every file is read."""
    relevance_max_file_tokens: int = Field(100_000, gt=0)
    """Tokens of a file that the relevance model reads, longer ones as excerpts; 3,000 if listed and not set."""
    relevance_max_files: int = Field(2_000, gt=0)
    """Files that the relevance model reads, best lexical match first."""
    relevance_output_tokens: int = Field(4096, gt=0)
    """Tokens of one reply of the relevance model."""
    relevance_temperature: float = Field(0.0, ge=0, le=2)
    """Of the relevance model."""
    rankings: int = Field(3, ge=0)
    """Rankings of the relevant files, merged; 1 if listed and not set; 0: by the words that issue and files share."""
    context_tokens: int = Field(128_000, gt=0)
    """Tokens of files in a prompt at most; 6,000 if listed and not set; also bounded by the model's window."""
    test_calls: int = Field(8, gt=0)
    """Model calls of one test machine."""
    edit_calls: int = Field(8, gt=0)
    """Model calls of one edit machine."""
    look_calls: int = Field(8, ge=0)
    """Replies of one machine whose shell commands are run, besides its calls; 0: none."""
    edit_format: Literal["auto", "search_replace", "define", "file", "diff"] = "auto"
    """How edits are asked for; auto: as the examination finds; all are understood."""
    attempts: Literal["auto", "correct", "draw anew"] = "auto"
    """Whether the model corrects an attempt that failed or another is drawn; auto: as the examination finds."""
    examine: bool = True
    """Whether a model is examined at first contact, in some fifty short calls; its result is kept."""
    describe: bool = True
    """Whether the model describes the chosen patch for its reviewer, in one call."""
    temperature: float = Field(0.5, ge=0, le=2)
    """Of the test and edit machines."""
    output_tokens: int = Field(16_384, gt=0)
    """Tokens of one reply of a machine."""
    test_timeout: float = Field(100.0, gt=0)
    """Seconds that one test may take."""
    matrix_seconds: float = Field(0.0, ge=0)
    """Seconds for the whole matrix, the most informative tests first; 0: no limit."""
    own_tests_timeout: float = Field(900.0, gt=0)
    """Seconds, for the repository's own test command; on candidates 10 times what it took without, 120 at least."""
    own_tests_candidates: int = Field(3, gt=0)
    """How many of the best-voted candidates the repository's own tests run on."""
    examples: bool = True
    """Whether documented examples (`>>>` in Python's docstrings) that hold without a candidate must hold with it."""
    selection_top: int = Field(3, gt=0)
    """Best-voted candidates among which the model chooses."""
    selection_calls: int = Field(10, gt=0)
    """Model calls of the selection."""
    selection_temperature: float = Field(0.0, ge=0, le=2)
    """Of the selection."""
    wrong_at_most: float = Field(1.0, ge=0, le=1)
    """Share of wrong pull requests that is taken: less likely winners are not published; 1: all are."""
    confidence_shift: float = Field(1.1, ge=-10, le=10)
    """Added to the log-odds that a winner is right; the default is of planted bugs, `troop eval` prints others."""

    def stop_rule(self) -> str:
        """`stop`, with `auto` decided."""
        return self.stop if self.stop != "auto" else "posterior" if self.stop_at < 1 else "none"


class SandboxSettings(BaseModel):
    """Env: `TROOP_SANDBOX_...`."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    kind: Literal["auto", "docker", "process"] = "auto"
    """A server takes docker only; auto: Docker, else processes of this machine."""
    image: Annotated[str, AfterValidator(image_name)] = "python:3.11-slim"
    """Image of the containers; must have what the tests need."""
    images_allowed: Words = ()
    """Images that a repository may name, or that are taken if `image` lacks a toolchain: `golang:1.23 rust:1`."""
    runtime: str = ""
    """Docker's runtime, e.g. `runsc`; empty: the daemon's default."""
    concurrency: int = Field(0, ge=0)
    """Jobs at once; 0: one for each processor."""
    memory: Annotated[ByteSize, BeforeValidator(_binary)] = ByteSize(2 << 30)
    """Memory of one job, e.g. `512m` or `2g`."""
    processors: float = Field(1.0, gt=0)
    """Of one job."""
    pids: int = Field(256, gt=0)
    """Processes and threads of one job."""
    output_limit: int = Field(200_000, gt=0)
    """Bytes kept of one job's output; of a run of the repository's own tests five times as many."""
    setup: str = ""
    """Shell commands that prepare the image where a repository has no `setup` of its own, in the place of manifests."""
    build: Literal["auto", "setup", "never"] = "auto"
    """What is installed on the image: by `.troop.toml`, else by manifests; `setup`: only by `.troop.toml`."""
    setup_timeout: float = Field(1800.0, gt=0)
    """Seconds for the build phase of a repository's image."""
    build_memory: Annotated[ByteSize, BeforeValidator(_binary)] = ByteSize(8 << 30)
    """Memory of a build."""
    build_processors: float = Field(4.0, gt=0)
    """Of a build; no more than there are."""
    build_network: Literal["guarded", "open", "none"] = "guarded"
    """What a build reaches; guarded: no private or link-local address."""
    build_allowed_networks: Networks = ()
    """Private addresses or networks that a guarded build reaches all the same, e.g. of a mirror."""
    build_environment: Assignments = ()
    """`NAME=VALUE` for builds alone, e.g. `PIP_INDEX_URL`; the repository's code can read them."""
    images_kept: Annotated[ByteSize, BeforeValidator(_binary)] = ByteSize(20 << 30)
    """Disk for built images, beside those they begin from; those used longest ago are removed first."""


class Settings(BaseSettings):
    """Everything. `read_settings()` reads the environment and `.env`; see `troop doctor`."""

    model_config = SettingsConfigDict(
        env_prefix="TROOP_",
        env_nested_delimiter="_",
        env_nested_max_split=1,
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",  # `bot.settings.sources.misspelt` names what nobody reads
        use_attribute_docstrings=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What was given in code, then the environment, then `.env`, then the folder of secrets."""
        folder = getattr(file_secret_settings, "secrets_dir", None)
        return init_settings, with_files(env_settings), with_files(dotenv_settings), FileSource(settings_cls, folder)

    @field_validator("admin_token")
    @classmethod
    def _long_enough(cls, token: SecretStr) -> SecretStr:
        if 0 < len(token.get_secret_value()) < _SHORTEST_TOKEN:
            raise ValueError(f"is shorter than {_SHORTEST_TOKEN} characters, and could be guessed")
        return token

    @model_validator(mode="after")
    def _addresses_of_one_github(self) -> "Settings":
        given = {
            name: getattr(self, name) for name in ("github_url", "github_web_url") if name in self.model_fields_set
        }
        found = github_addresses(given.get("github_url", ""), given.get("github_web_url", ""))
        # Past pydantic, so that a derived address does not count as one that was set.
        self.__dict__["github_url"], self.__dict__["github_web_url"] = found
        return self

    # -- GitHub
    github_url: Url = "https://api.github.com"
    """The API; GitHub Enterprise: `https://HOST/api/v3`. Empty: derived from `TROOP_GITHUB_WEB_URL`."""
    github_web_url: Url = "https://github.com"
    """The website, from which git clones. Empty: derived from `TROOP_GITHUB_URL`; another GitHub's is refused."""
    github_write_seconds: float = Field(1.0, ge=0)
    """Seconds between two writes of one process; GitHub asks for at least 1."""
    app_id: Annotated[int, BeforeValidator(_app_number)] = Field(0, ge=0)
    """The App's number, in its settings on GitHub."""
    app_slug: str = ""
    """Only where `troop serve` has no private key, for mentions and assignments: else GitHub tells it."""
    private_key: SecretStr = SecretStr("")
    """The App's private key itself: PEM, also in one line with `\\n`."""
    private_key_file: Path | None = None
    """The App's private key: the `.pem` file that GitHub made."""
    token: HeaderSecret = SecretStr("")
    """Instead of an App: a fine-grained token, preferably of a machine user."""
    token_login: str = ""
    """That user's login, whose events are ignored; empty if a person uses the account, too."""
    webhook_secret: SecretStr = SecretStr("")
    """The secret of the webhook in the App's settings."""
    webhook_secret_previous: SecretStr = SecretStr("")
    """An earlier secret that is still valid while secrets rotate."""
    client_id: str = ""
    """The App's client id, with which people sign in to the pages."""
    client_secret: SecretStr = SecretStr("")
    """A client secret of the App, in its settings on GitHub."""
    admin_token: SecretStr = Field(SecretStr(""), max_length=200)
    """Shows the pages to the machine's owner; at least 16 characters. Empty: one is made in `TROOP_SECRETS_DIR`."""
    repositories: Words = ()
    """Allow-list of owner/name patterns; empty: all where the App is installed."""
    label: str = Field("troop", min_length=1, max_length=40)
    """The label that starts a run."""
    triggers: Annotated[tuple[Trigger, ...], NoDecode, LISTED] = tuple(Trigger)
    """What starts a run: the label, an assignment to our own user, a mention of it in a comment."""
    bots_allowed: Bots = ()
    """Bots whose labels, commands and reviews count as a maintainer's, e.g. `renovate[bot]`; all others are ignored."""
    repository_may_set: Annotated[tuple[Overridable, ...], NoDecode, LISTED] = (
        "base",
        "test",
        "scripts",
        "context",
        "trajectories",
        "setup",
    )
    """What a repository's `.troop.toml` may set."""
    quota_runs_per_hour: int = Field(20, ge=0)
    """Runs that one repository may start in an hour."""
    revisions_per_day: int = Field(5, ge=0)
    """Revisions of one pull request that reviews may start within a day; 0: none."""
    feedback: bool = True
    """Keep what becomes of pull requests, by repository, and correct the probability of later winners by it."""
    paused: bool = False
    """Record deliveries, but start no run; `troop pause` does it without a restart."""

    # -- the service
    database_url: str = "sqlite:///troop.sqlite3"
    """SQLite, or PostgreSQL (`postgresql+psycopg://...`)."""
    redis_url: str = ""
    """The queue of `troop work`; empty: `troop serve` executes runs itself."""
    public_url: Annotated[Url, AfterValidator(lambda url: url.rstrip("/").removesuffix("/webhook"))] = ""
    """Where GitHub reaches this server, e.g. `https://troop.example.com`. Without an App `/setup` then makes one."""
    secrets_dir: Path = Path("var/secrets")
    """Where `/setup` writes the App's id, key and secrets, a file each; it is read at start, after all else."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(8000, ge=1, le=65_535)
    """Port to listen on."""
    log_format: Literal["text", "json"] = "text"
    """Of a server's log: lines for people, or JSON with the ids of deliveries and runs."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that a server logs of its own; of libraries it is warnings. The address of `/setup` is a warning."""
    workers: int = Field(2, gt=0)
    """Runs at once in one process."""
    lease_seconds: float = Field(60.0, gt=0, le=3600)
    """Seconds; a run whose worker is silent for this long is taken over."""
    sweep_seconds: float = Field(15.0, gt=0)
    """Seconds between two searches for jobs that are due."""
    max_crashes: int = Field(3, gt=0)
    """A run that kills its worker this often is parked."""
    keep_days: float = Field(30.0, ge=4)
    """Days that deliveries and steps of ended runs are kept; GitHub redelivers for 3."""
    work_dir: Path = Path("var")
    """Folder of checkouts."""
    models_dir: Path = Path("var/models")
    """Where `troop models` puts what it fetches."""
    engine_model: str = ""
    """For Troop's own engine, where no endpoint is set: a published model's name or a path."""
    engine_arguments: Words = ()
    """Options of `troop engine`, beside the model, e.g. `--dtype bfloat16`."""
    checkout_max_bytes: int = Field(2_000_000_000, gt=0)
    """Bytes that a repository may take on disk; its submodules as many again."""
    checkout_timeout: float = Field(600.0, gt=0)
    """Seconds that a checkout may take; its submodules as long again."""
    checkout_lfs_bytes: int = Field(100_000_000, ge=0)
    """Bytes of Git LFS's files that a checkout fetches, the smallest first, on the owner's quota; 0: none."""
    checkout_submodules: Literal["none", "public", "installation"] = "public"
    """Submodules that are fetched, of the same host: none, those that anybody can read, or of the same owner also
    private ones that the App's installation (or the token) covers. Then who may write to a repository can have Troop
    read those, and tests print what is in them."""

    pages: PagesSettings = PagesSettings()
    """Where people watch runs, each those of the repositories that they can read."""
    main: ModelSettings = ModelSettings()
    """The model that writes tests and fixes."""
    relevance: ModelSettings = ModelSettings()
    """The model that reads every file; without a `TROOP_RELEVANCE_BASE_URL` the main model does."""
    solver: SolverSettings = SolverSettings()
    """How the solver samples, votes and selects."""
    sandbox: SandboxSettings = SandboxSettings()
    """Where tests run."""
    spending: SpendingSettings = SpendingSettings()
    """What models cost, and what may be spent."""

    def own_login(self, *, as_app: bool) -> str:
        """Our own login on GitHub: the App's bot, or the token's user; empty where that one is not named."""
        if as_app:
            return f"{self.app_slug}[bot]" if self.app_slug else ""
        return self.token_login

    def webhook_secrets(self) -> tuple[bytes, ...]:
        """The webhook secrets that are valid now: the current one, and the previous one while secrets rotate."""
        both = (self.webhook_secret, self.webhook_secret_previous)
        return tuple(secret.get_secret_value().encode() for secret in both if secret.get_secret_value())

    def secrets(self) -> tuple[str, ...]:
        """All secrets that are set, the private key's file included: none of them may appear in what Troop writes."""
        values = list(_secrets_in(self))
        if self.private_key_file is not None and self.private_key_file.is_file():
            with contextlib.suppress(OSError):  # `bot.forge.app_key` says why it can't be read
                values.append(self.private_key_file.read_text(errors="replace"))
        values += [secret for address in getproxies().values() for secret in credentials_in(address)]
        values += [secret for word in self.sandbox.build_environment for secret in secret_assignment(word)]
        return tuple(dict.fromkeys(value for value in values if len(value) >= _SHORTEST_SECRET))


def _secrets_in(settings: BaseModel) -> Iterator[str]:
    """Secrets, and those in addresses: of every setting, so that none is forgotten."""
    for name, value in settings:
        if isinstance(value, BaseModel):
            yield from _secrets_in(value)
        elif isinstance(value, SecretStr):
            yield value.get_secret_value()
        else:
            words = value if isinstance(value, tuple) else (value,)
            for word in words:
                if isinstance(word, str) and ("://" in word or name.endswith("url")):
                    yield from credentials_in(word)
