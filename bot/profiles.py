"""Which prompts a model gets, and with which numbers: decided once a run, from the settings and the model."""

from bot.contracts import Model
from bot.prompts import Profile
from bot.records import Record
from bot.settings import SolverSettings

COMPACT_WINDOW = 8192  # tokens; below it the full prompts leave too little room for the repository

# For a model of a few million parameters: more chance, shorter replies, less to read. Only where the operator's
# settings leave the default.
COMPACT: dict[str, float | int] = {
    "relevance_output_tokens": 64,
    "relevance_max_files": 24,
    "relevance_max_file_tokens": 700,
    "context_tokens": 1200,
    "test_calls": 3,
    "edit_calls": 4,
    "temperature": 0.9,
    "output_tokens": 400,
    "selection_calls": 4,
}


class ResolvedSolver(Record):
    """The profile of a run and the solver's numbers for it."""

    profile: Profile
    settings: SolverSettings


def resolve(settings: SolverSettings, model: Model) -> ResolvedSolver:
    """The profile that was asked for, else compact for the bundled model or a window under 8,192 tokens. Pure.

    What the operator set (`model_fields_set`) stands; the compact profile replaces defaults only.
    """
    profile: Profile
    if settings.profile == "auto":
        compact = "capuchin" in model.name.lower() or model.context_window < COMPACT_WINDOW
        profile = "compact" if compact else "full"
    else:
        profile = settings.profile
    if profile == "compact":
        chosen = {name: value for name, value in COMPACT.items() if name not in settings.model_fields_set}
        settings = settings.model_copy(update=chosen)
    return ResolvedSolver(profile=profile, settings=settings)
