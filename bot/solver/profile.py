"""Which prompts a model gets, and with which numbers: decided once a run, from the settings and the model."""

from bot.contracts import Model
from bot.llm.prompts import Profile
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
    "test_calls": 5,
    "edit_calls": 6,
    "temperature": 0.6,
    "output_tokens": 400,
    "selection_calls": 4,
}

# For an instruction-tuned model on a CPU, where a prompt of 10,000 tokens takes half a minute and all replies together
# some 100 tokens a second: the likeliest files, excerpts of the long ones, fewer and shorter replies; more
# chance, since what fails is drawn anew. Only where the operator's settings leave the default.
ON_CPU: dict[str, float | int] = {
    "relevance_output_tokens": 256,
    "relevance_max_files": 4,
    "relevance_max_file_tokens": 1200,
    "rankings": 1,
    "context_tokens": 3000,
    "test_calls": 4,
    "edit_calls": 5,
    "temperature": 0.6,
    "output_tokens": 1024,
    "selection_calls": 4,
}


class ResolvedSolver(Record):
    """The profile of a run and the solver's numbers for it."""

    profile: Profile
    settings: SolverSettings
    small: bool = False  # whether the model is small, which is what runs on a CPU, though it takes instructions

    @property
    def redraws(self) -> bool:
        """Whether an attempt that failed is forgotten and drawn anew, instead of being shown to the model.

        A small model mostly repeats what it reads, its mistakes too: independent draws find more. They cost less, too:
        all draws share one prompt.
        """
        return self.profile == "compact" or self.small

    @property
    def rewrites(self) -> bool:
        """Whether edits are asked for as whole functions: a small model copies the lines around a change badly."""
        return self.small

    def reply_tokens(self, window: int) -> int:
        """Tokens that one reply of a machine may have: the setting, but at most a quarter of the model's window."""
        return min(self.settings.output_tokens, max(1, window // 4))

    def context_tokens(self, window: int, taken: int) -> int:
        """Tokens of file text that the main model is shown, where `taken` go to instructions and the issue.

        A quarter of the window is kept for the turns of a conversation, beside its next reply.
        """
        return max(0, min(self.settings.context_tokens, window - self.reply_tokens(window) - window // 4 - taken))


def resolve(settings: SolverSettings, model: Model) -> ResolvedSolver:
    """The profile that was asked for, else compact for the bundled model or a window under 8,192 tokens. Pure.

    What the operator set (`model_fields_set`) stands; the compact profile, and a model on a CPU, replace defaults only.
    """
    profile: Profile
    if settings.profile == "auto":
        compact = "capuchin" in model.name.lower() or model.context_window < COMPACT_WINDOW
        profile = "compact" if compact else "full"
    else:
        profile = settings.profile
    numbers = COMPACT if profile == "compact" else ON_CPU if model.on_cpu else {}
    chosen = {name: value for name, value in numbers.items() if name not in settings.model_fields_set}
    settings = settings.model_copy(update=chosen)
    return ResolvedSolver(profile=profile, settings=settings, small=profile == "full" and model.on_cpu)
