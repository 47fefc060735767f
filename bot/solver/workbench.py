"""What a run works with: the checkout, its config, the models and the sandbox, opened and closed together."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bot.contracts import Sandbox
from bot.errors import SettingsError
from bot.llm.ability import abilities_folder
from bot.llm.budget import Allowance
from bot.llm.examination import Examiner
from bot.recipe import Recipe
from bot.records import Build, Checkout, Environment
from bot.repo_config import AUTO, RepoConfig
from bot.sandbox import open_sandbox
from bot.sandbox.build import Plan, unkept
from bot.sanitize import redact
from bot.settings import Settings, SolverSettings, SpendingSettings
from bot.solver.models import Models, open_models
from bot.solver.project import build_recipe, config_of_tests, read_config
from bot.solver.stages.matrix import Earlier
from bot.solver.stopping import with_rule

DOWN = 600.0  # seconds that a server's run waits for a model endpoint that is down, before its worker takes other runs

Notice = Callable[[str], None]


def unheard(words: str) -> None:
    """A `Notice` that nobody reads."""


@dataclass(frozen=True)
class Audience:
    """Who hears of a run beside its report: `notice` what the operator should know, `tell` what is being done, `keep`
    the layers of the image that were built, from another thread."""

    notice: Notice = unheard
    tell: Notice = unheard
    keep: Callable[[Build], None] = unkept


NOBODY = Audience()


@dataclass(frozen=True)
class Workbench:
    """One run's checkout, models and sandbox, with the settings that the repository's config leaves."""

    checkout: Checkout
    models: Models
    sandbox: Sandbox
    settings: SolverSettings
    config: RepoConfig = field(default_factory=RepoConfig)
    recipe: Recipe = field(default_factory=Recipe)
    notes: tuple[str, ...] = ()  # for the report: what of the config is ignored, what the checkout leaves out
    notice: Notice = unheard  # gets at once what the operator should know
    examiner: Examiner | None = None  # knows what the main model is able to; None: nobody asks
    earlier: Earlier | None = None  # of a revision: what it begins with
    environment: Environment = field(default_factory=Environment)  # where tests run
    servers: str = ""  # beside tests, in words
    endpoint: str = ""  # of the main model, as results are kept by; "" for Troop's own engine
    spending: SpendingSettings = field(default_factory=SpendingSettings)
    allowance: Allowance = field(default_factory=Allowance)  # whoever holds it may change it while the run goes on


@asynccontextmanager
async def open_workbench(
    settings: Settings,
    checkout: Checkout,
    *,
    base_url: str = "",
    user: str | None = None,
    server: bool = False,
    venv_of: Path | None = None,
    audience: Audience = NOBODY,
) -> AsyncIterator[Workbench]:
    """Connect the models and open a sandbox over the checkout; closes both at the end.

    `base_url`: of the main model where the settings name none. `user` names the run to the models. `server`: issues
    come from strangers, so that the process sandbox is refused, and a model endpoint that is down is waited for.
    `venv_of`: as of `open_sandbox`. Raises `EndpointError`, `EndpointDown`, `SandboxUnavailable`, `SandboxError`,
    `BuildFailed`, and `SettingsError` where there are caps, and a model has no price.
    """
    config, notes = read_config(checkout, settings)
    recipe = build_recipe(checkout, config, settings)
    async with open_models(settings, base_url, user, patience=DOWN if server else 0.0, tell=audience.tell) as models:
        if trouble := settings.spending.unpriced(models.main.name, models.relevance.name):
            raise SettingsError(trouble)
        sandbox = await open_sandbox(
            settings.sandbox,
            Path(checkout.root),
            config=config,
            plan=Plan(
                recipe, f"{settings.github_url} {checkout.repository}", audience.tell, audience.keep, checkout.apart
            ),
            server=server,
            venv_of=venv_of,
            notice=audience.notice,
        )
        own = solver_settings(settings.solver, config)
        try:
            yield Workbench(
                checkout=checkout,
                models=models,
                sandbox=sandbox,
                environment=sandbox.environment.model_copy(
                    update={"test_timeout": own.test_timeout, "config": config_of_tests(config)}
                ),
                settings=own,
                config=config,
                recipe=recipe,
                notes=(*notes, *recipe.notes, *sandbox.notes, *checkout.left_out),
                servers=sandbox.servers,
                notice=audience.notice,
                examiner=Examiner(abilities_folder()) if settings.solver.examine else None,
                endpoint=redact(settings.main.base_url, ()),
                spending=settings.spending,
                allowance=Allowance.of(settings.spending),
            )
        finally:
            await sandbox.close()


def solver_settings(settings: SolverSettings, config: RepoConfig) -> SolverSettings:
    """The settings of a run: the server's, with what the repository may set of its own."""
    read = {"all": "read all", "listed": "listed"}.get(config.read)
    auto = config.trajectories == AUTO
    own = {
        "trajectories": None if auto else config.trajectories,
        "own_tests_timeout": config.test_timeout,
        "context": read,
    }
    changed = settings.model_copy(update={name: value for name, value in own.items() if value is not None})
    rule = config.stop or ("posterior" if auto and settings.stop_rule() in ("none", "posterior") else "")
    return with_rule(changed, rule) if rule else changed
