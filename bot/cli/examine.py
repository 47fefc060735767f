"""`troop doctor --model NAME`: what a model is able to, as a table, and what Troop makes of it."""

import contextlib
import time
from collections.abc import AsyncIterator, Callable

from bot.contracts import Model
from bot.llm.ability import FORMATS, Ability, Share, abilities_folder
from bot.llm.budget import Budget, MeteredModel
from bot.llm.bundled_engine import configured_engine
from bot.llm.client import OpenAIModel
from bot.llm.examination import Examiner
from bot.records import Usage
from bot.sanitize import redact
from bot.settings import Settings, read_settings
from bot.solver.profile import ResolvedSolver, resolve

_TOLD_EVERY = 10  # calls
_NAMES = {
    "search_replace": "edits in SEARCH/REPLACE blocks",
    "define": "edits as whole definitions",
    "file": "edits as whole files",
    "diff": "edits as unified diffs",
}


async def examine_model(name: str, *, again: bool, print_line: Callable[[str], None]) -> int:
    """Examine the model and print what was found; 1 if it gave no answers. Raises `EndpointError`, `ModelMissing`."""
    settings = read_settings()
    async with _opened(settings, name, print_line) as (model, endpoint):
        budget = Budget()
        started = time.monotonic()
        plain = resolve(settings.solver, model)
        ability = None
        if plain.profile == "full":
            paid = MeteredModel(model, budget)

            def told(done: int, total: int) -> None:
                if done % _TOLD_EVERY == 0:
                    print_line(f"examining {model.name}: {done} of {total} short calls answered")

            ability = await Examiner(abilities_folder()).ability(paid, endpoint, again=again, told=told)
            if ability is None:
                print_line(f"{model.name} left too many calls without an answer: look at the endpoint's log")
                return 1
        for line in table(model, ability, resolve(settings.solver, model, ability)):
            print_line(line)
        for line in _cost(budget.usage, time.monotonic() - started):
            print_line(line)
    return 0


def table(model: Model, ability: Ability | None, solver: ResolvedSolver) -> list[str]:
    """The lines of the report. `ability`: None for a model whose format is known."""
    lines = [f"{model.name}, a window of {model.context_window:,} tokens"]
    if ability is None:
        return [*lines, "  it gets the prompts for tiny models, with the format that those have: not examined"]
    for form in FORMATS:
        mark = "  <- asked for" if form == solver.formats[0] else ""
        lines.append(f"  {_NAMES[form]:<34}{_said(ability.edits.get(form, Share()))}{mark}")
    lines.append(f"  {'tests':<34}{_said(ability.tests)}")
    how = "drawn anew" if solver.draws_anew else "corrected in dialogue"
    lines.append(f"  {'mistakes corrected':<34}{_said(ability.corrections)}  -> failed attempts are {how}")
    found = f"up to {ability.context_tokens:,} tokens of a file" if ability.context_tokens else "in all files tried"
    lines.append(f"  {'the right line found':<34}{found}  -> {solver.settings.context_tokens:,} tokens are shown")
    if ability.unanswered:
        lines.append(f"  {ability.unanswered} calls were left without an answer")
    if ability.source == "published":
        lines.append("  these figures are recorded for this published model; --again examines it here")
    lines.append("  TROOP_SOLVER_EDIT_FORMAT, TROOP_SOLVER_ATTEMPTS and TROOP_SOLVER_CONTEXT_TOKENS overrule this")
    return lines


def _said(share: Share) -> str:
    return f"{share.right:>3} of {share.of:<3}" if share.of else "not tried "


def _cost(usage: Usage, seconds: float) -> list[str]:
    if not usage.calls:
        return ["  (kept from an earlier examination; --again examines it anew)"]
    return [
        f"  {usage.calls} calls, {usage.prompt_tokens:,} prompt tokens, {usage.completion_tokens:,} completion tokens, "
        f"{seconds:.0f} s"
    ]


@contextlib.asynccontextmanager
async def _opened(settings: Settings, name: str, say: Callable[[str], None]) -> AsyncIterator[tuple[Model, str]]:
    """The model and the endpoint that results are kept by: the configured one, else Troop's own engine."""
    async with contextlib.AsyncExitStack() as stack:
        endpoint, base_url = settings.main.base_url, ""
        main = settings.main.model_copy(update={"name": name})
        if not endpoint:
            own = settings.model_copy(update={"engine_model": name})
            base_url = await stack.enter_async_context(
                configured_engine(own, abilities_folder().parent / "examination.log", say)
            )
            main = settings.main.model_copy(update={"name": ""})
        model = OpenAIModel(main, "main", base_url)
        stack.push_async_callback(model.close)
        await model.connect()
        yield model, redact(endpoint, ())
