"""The prompts, the numbers and the behaviour that suit a model: decided once for each run."""

from bot.contracts import Model
from bot.llm.ability import Ability, EditFormat
from bot.llm.prompts import Profile
from bot.records import Record
from bot.settings import SolverSettings

COMPACT_WINDOW = 8192  # tokens; below it the full prompts leave too little room for the repository

# For a model of a few million parameters: a higher temperature, shorter replies, less to read. Replaces defaults only.
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
# some 100 tokens a second: the likeliest files, excerpts of the long ones, fewer and shorter replies; a
# higher temperature, since failed attempts are sampled again. Replaces defaults only.
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

# Where the model names from a list what is read: what it reads is excerpts, and what it is shown is what matters, since
# each call of each trajectory pays for it and the rest is a command away. Replaces defaults only.
LISTED: dict[str, float | int] = {
    "relevance_max_file_tokens": 3_000,
    "rankings": 1,
    "context_tokens": 6_000,
}
_SHOWN = (3_000, 1_000, 700, 500)  # tokens of the most important files, and of each later one, that are shown at most
_HOTTER = 0.4  # added to the temperature of each ranking after the first


class ResolvedSolver(Record):
    """The numbers of a run, and flags for what suits its model. Stages ask for a flag, not for the profile.

    `profile` only chooses the folder of the prompts.
    """

    profile: Profile
    settings: SolverSettings
    test_commands: tuple[tuple[str, ...], ...] = ()  # that may run the repository's own tests, the likeliest first
    small: bool = False  # the model takes instructions, but is of the size that runs on a CPU
    formats: tuple[EditFormat, ...] = ("search_replace",)  # in which edits are asked for, the best first
    draws_anew: bool = False  # whether failed attempts are sampled again, as far as the model's ability says

    @property
    def _compact(self) -> bool:
        return self.profile == "compact"

    # -- reading the repository

    @property
    def lists_first(self) -> bool:
        """Whether the model names from the list of paths what is read. A small one chooses worse than the words do."""
        return not self._compact and not self.small and self.settings.context == "listed"

    def file_tokens(self, place: int, files: int = 1) -> int:
        """Tokens of the file at that place of the ranking (from 0) that are shown at most, of so many `files`.

        What the first leaves of the budget is the others': few get more than many.
        """
        if not self.lists_first or not self.looks:
            return self.settings.context_tokens
        evenly = max(0, self.settings.context_tokens - _SHOWN[0]) // max(1, files - 1)
        return max(_SHOWN[min(place, len(_SHOWN) - 1)], min(_SHOWN[0], evenly))

    def ranking_temperature(self, number: int) -> float:
        """Of the ranking with that number (from 1): several at temperature 0 would be one."""
        usual = self.settings.relevance_temperature
        return usual if self._compact else min(1.0, usual + _HOTTER * (number - 1))

    @property
    def keeps_best_match(self) -> bool:
        """Whether the file that matches the issue best by words is kept even if the model calls it irrelevant."""
        return self._compact or self.small

    @property
    def ranks_with_words(self) -> bool:
        """Whether the ranking by words counts as well as the model's, and only few files are ranked."""
        return self._compact

    @property
    def shows_few_functions(self) -> bool:
        """Whether a few functions are shown instead of files: unrelated code misleads a tiny model."""
        return self._compact

    # -- sampling

    @property
    def resamples(self) -> bool:
        """Whether an attempt that failed is forgotten and sampled again, instead of being shown to the model.

        A small model mostly repeats what it reads, its mistakes too: independent samples find more. They cost less,
        too: all of them share one prompt.
        """
        return self._compact or self.draws_anew

    @property
    def shows_tests(self) -> bool:
        """Whether the model sees the repository's tests of what it works on, and what its edit breaks of them."""
        return not self.resamples

    @property
    def shows_customs(self) -> bool:
        """Whether the model sees what the repository asks of its contributors. On a CPU that is slow to read."""
        return not self.resamples and not self.small

    @property
    def looks(self) -> int:
        """Replies of a machine in which the model may look around by shell commands."""
        return 0 if self.resamples else self.settings.look_calls

    @property
    def is_examined(self) -> bool:
        """Whether an examination can change anything; the bundled model's ability is known."""
        decided = self.settings.edit_format != "auto" and self.settings.attempts != "auto"
        return not self._compact and self.settings.examine and not decided

    @property
    def shows_definitions(self) -> bool:
        """Whether of each file the definitions that matter are shown, to a model that writes whole ones anew."""
        return self.small and self.formats[0] == "define"

    @property
    def begins_replies(self) -> bool:
        """Whether replies of a known form are begun for the model; the bundled one was not trained on that."""
        return not self._compact

    @property
    def gives_hints(self) -> bool:
        """Whether the opening of a trajectory holds an example of an edit; the compact prompts have no place for it."""
        return not self._compact

    @property
    def held_to_grammar(self) -> bool:
        """Whether replies must follow a grammar made of the issue and the files."""
        return self._compact

    @property
    def edits_need_a_test(self) -> bool:
        """Whether no edit is asked for without a test. Elsewhere the tests of other trajectories judge it."""
        return self._compact

    @property
    def repairs_edits(self) -> bool:
        """Whether an edit of a test is left out of a patch, and one made on the earlier edit is applied there.

        Where it is not, such an edit is a mistake to the model.
        """
        return not self._compact

    @property
    def replies_grow(self) -> bool:
        """Whether the reply that follows one that was cut off may be longer."""
        return not self._compact

    # -- selecting

    @property
    def deliberates(self) -> bool:
        """Whether the model is shown the tests when it chooses, and may object to them, write a patch or decline.

        One that can't mend its own attempts judges others' no better: it is asked only where the count is open.
        """
        return not self.resamples

    @property
    def describes(self) -> bool:
        """Whether the model describes the winner for its reviewer; the bundled one was not trained on that."""
        return not self._compact and self.settings.describe

    @property
    def argues(self) -> bool:
        """Whether the model is asked back about a choice against its own test, and sees runs on the base commit.

        The bundled model was trained on neither.
        """
        return not self._compact

    @property
    def explains_problems(self) -> bool:
        """Whether a reply that can't be used is answered with the whole explanation, not with its first line."""
        return not self._compact

    def opening_tokens(self, window: int) -> int:
        """Tokens of the window that the selection's opening may have, with room for a reply and the turns after it."""
        return window - self.reply_tokens(window) - (0 if self._compact else window // 4)

    def reply_tokens(self, window: int) -> int:
        """Tokens that one reply of a machine may have: the setting, but at most a quarter of the model's window."""
        return min(self.settings.output_tokens, max(1, window // 4))

    def context_tokens(self, window: int, taken: int) -> int:
        """Tokens of file text that the main model is shown, where `taken` go to instructions and the issue.

        A quarter of the window is kept for the turns of a conversation, besides its next reply.
        """
        return max(0, min(self.settings.context_tokens, window - self.reply_tokens(window) - window // 4 - taken))


def resolve(settings: SolverSettings, model: Model, ability: Ability | None = None) -> ResolvedSolver:
    """The profile that was asked for, else compact for the bundled model or a window under 8,192 tokens. Pure.

    What the operator set (`model_fields_set`) is kept: the compact profile and a model on a CPU replace defaults only.
    `ability`: what an examination found; without it, a model on a CPU writes definitions, others SEARCH/REPLACE blocks.
    """
    profile: Profile
    if settings.profile == "auto":
        compact = "capuchin" in model.name.lower() or model.context_window < COMPACT_WINDOW
        profile = "compact" if compact else "full"
    else:
        profile = settings.profile
    listed = LISTED if settings.context == "listed" else {}
    numbers = COMPACT if profile == "compact" else ON_CPU if model.on_cpu else listed
    chosen = {name: value for name, value in numbers.items() if name not in settings.model_fields_set}
    if profile == "compact":
        return ResolvedSolver(profile=profile, settings=settings.model_copy(update=chosen))
    if ability is not None and ability.context_tokens and "context_tokens" not in settings.model_fields_set:
        usual = int(chosen.get("context_tokens", settings.context_tokens))
        chosen["context_tokens"] = min(usual, ability.context_tokens)
    small = model.on_cpu
    usual_formats: tuple[EditFormat, ...] = ("define", "search_replace") if small else ("search_replace", "define")
    formats = ability.formats if ability is not None and ability.formats else usual_formats
    if settings.edit_format != "auto":
        formats = (settings.edit_format, *(one for one in formats if one != settings.edit_format))
    corrects = ability.corrects if ability is not None and ability.corrects is not None else not small
    return ResolvedSolver(
        profile=profile,
        settings=settings.model_copy(update=chosen),
        small=small,
        formats=formats,
        draws_anew=not corrects if settings.attempts == "auto" else settings.attempts == "draw anew",
    )
