"""The operator's settings: environment variables `TROOP_...`, or a `.env` file. Nothing here comes from a repository.

What a repository may set for itself is `bot.repo_config`; `repository_may_set` says which of it is honoured.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ModelSettings(BaseModel):
    """One model role. Env: `TROOP_MAIN_...` for the main one, `TROOP_RELEVANCE_...` for the reader of every file."""

    base_url: str = ""  # of an OpenAI-compatible API, e.g. http://127.0.0.1:8100/v1; empty: Troop's own engine
    api_key: SecretStr = SecretStr("none")
    name: str = ""  # empty: the first model that the endpoint lists
    context_window: int = 0  # tokens; 0: ask the endpoint, else 131,072
    tokenizer: str = ""  # folder of a tokenizer, for endpoints without /tokenize
    concurrency: int = Field(64, gt=0)  # calls under way at once
    timeout: float = Field(600.0, gt=0)  # seconds a call
    first_answer_timeout: float = Field(180.0, gt=0)  # seconds; an endpoint silent for so long at first is given up
    retries: int = Field(4, ge=0)


class SolverSettings(BaseModel):
    """CodeMonkeys' defaults (arXiv 2501.14723, table in DESIGN.md). Env: `TROOP_SOLVER_...`."""

    profile: Literal["auto", "full", "compact"] = "auto"  # auto: compact for the bundled model, full for all others
    trajectories: int = Field(10, gt=0, le=4096)
    seed: int = 0
    token_budget: int = Field(0, ge=0)  # prompt and completion tokens a run, then it goes on with what it has; 0: none
    relevance_max_file_tokens: int = 100_000
    relevance_max_files: int = 2_000  # files that the relevance model reads, best lexical match first
    relevance_output_tokens: int = 4096
    relevance_temperature: float = 0.0
    rankings: int = 3
    context_tokens: int = 128_000  # at most; also bounded by the model's window
    test_calls: int = Field(8, gt=0)
    edit_calls: int = Field(8, gt=0)
    temperature: float = Field(0.5, ge=0, le=2)
    output_tokens: int = 16_384  # of one reply of a machine
    test_timeout: float = Field(100.0, gt=0)  # seconds
    matrix_seconds: float = Field(0.0, ge=0)  # for all of the matrix, the most telling tests first; 0: no limit
    own_tests_timeout: float = Field(900.0, gt=0)  # seconds, for the repository's own test command
    own_tests_candidates: int = 3  # the best-voted on which the repository's own tests run
    selection_top: int = Field(3, gt=0)
    selection_calls: int = Field(10, gt=0)
    selection_temperature: float = 0.0


class SandboxSettings(BaseModel):
    """Env: `TROOP_SANDBOX_...`."""

    kind: Literal["auto", "docker", "process"] = "auto"  # the server takes docker only
    image: str = "python:3.11-slim"  # of containers; must hold what the tests need
    images_allowed: tuple[str, ...] = ()  # that a repository's config may name
    runtime: str = ""  # e.g. runsc
    concurrency: int = 0  # jobs at once; 0: one a processor
    memory: str = "2g"
    processors: float = 1.0
    pids: int = 256
    output_limit: int = 200_000  # bytes kept of one job's output
    setup_timeout: float = 1800.0  # seconds, for the build phase


class Settings(BaseSettings):
    """Everything. `Settings()` reads the environment and `.env`; see `troop doctor`."""

    model_config = SettingsConfigDict(
        env_prefix="TROOP_", env_nested_delimiter="_", env_nested_max_split=1, env_file=".env", extra="ignore"
    )

    # -- GitHub
    github_url: str = "https://api.github.com"  # GitHub Enterprise: https://HOST/api/v3
    github_web_url: str = "https://github.com"
    github_write_seconds: float = Field(1.0, ge=0)  # between two writes of one process; GitHub asks for at least 1
    app_id: int = 0
    app_slug: str = "troop"  # our own login is `SLUG[bot]`
    private_key: SecretStr = SecretStr("")  # PEM text
    private_key_file: Path | None = None
    token: SecretStr = SecretStr("")  # instead of an App: a fine-grained token, best of a machine user
    token_login: str = ""  # that user's login, whose events are then ignored; empty where a person uses it, too
    webhook_secret: SecretStr = SecretStr("")
    webhook_secret_previous: SecretStr = SecretStr("")  # still valid while secrets rotate
    repositories: tuple[str, ...] = ()  # allow-list of owner/name patterns; empty: wherever the App is installed
    label: str = "troop"
    repository_may_set: tuple[str, ...] = ("test", "scripts", "context", "trajectories", "setup")
    quota_runs_per_hour: int = 20  # a repository

    # -- the service
    database_url: str = "sqlite:///troop.sqlite3"
    redis_url: str = ""  # empty: the in-process queue
    host: str = "127.0.0.1"
    port: int = 8000
    public_url: str = ""  # of this service, for links
    pages: bool = False  # serve the status pages to everybody who reaches the service, not to this machine alone
    workers: int = Field(2, gt=0)  # runs at once in one process
    lease_seconds: float = Field(60.0, gt=0)  # a run whose worker is silent for so long is taken by another
    sweep_seconds: float = Field(15.0, gt=0)
    max_crashes: int = Field(3, gt=0)  # a run that kills its worker so often is parked
    keep_days: float = Field(30.0, ge=4)  # deliveries and steps of ended runs; GitHub redelivers for 3 days
    work_dir: Path = Path("var")  # checkouts
    checkout_max_bytes: int = 2_000_000_000
    checkout_timeout: float = 600.0  # seconds

    main: ModelSettings = ModelSettings()
    relevance: ModelSettings = ModelSettings()  # base_url empty: the main model reads the files too
    solver: SolverSettings = SolverSettings()
    sandbox: SandboxSettings = SandboxSettings()
