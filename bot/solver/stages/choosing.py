"""The choice among the finalists in its short form, for small models.

Such a model sees the diffs, may write tests that run on all finalists, and names one.
"""

from collections.abc import Sequence

from bot.llm.conversation import fitted_issue, opening, shortened, sizes_of
from bot.llm.prompts import render
from bot.llm.replies import Turn, parse_choice_turn
from bot.patch.apply import Problem
from bot.records import Execution, Message, Reply, Rule
from bot.solver.stages.choice_machine import ChoiceMachine


class Choosing(ChoiceMachine):
    """Shows the diffs of the finalists, and runs the tests that the model writes on all of them."""

    async def _answer(self, reply: Reply, *, last: bool) -> str | Problem:
        turn: Turn | Problem | None = parse_choice_turn(reply)
        if isinstance(turn, Turn) and turn.choice is not None:
            turn = self._choose(turn.choice, last=last)
        if isinstance(turn, Problem):
            return turn
        if turn is not None and turn.test is not None:
            executions = await self._executed(turn.test)
            return render(self._solver.profile, "select_result", executions=self._labelled(executions))
        return ""

    def _choose(self, number: int, *, last: bool) -> Problem | None:
        """Take the choice, or say what is wrong with it. `last`: no call is left to answer in."""
        problem = self._unknown(number)
        if problem is None and self._solver.argues and not last:
            problem = self._contradicted(number)
        if problem is not None:
            return problem
        self._end.rule, self._end.winner = Rule.MODEL, self._known[number - 1]
        return None

    async def _opening(self) -> tuple[Message, ...]:
        """The candidates with as many of the files as the window has room for; then as much of the diffs."""
        issue = await fitted_issue(self._question.issue, self._model)
        room = self._solver.opening_tokens(self._model.context_window)
        choices = self._choices()

        async def composed() -> tuple[tuple[Message, ...], int]:
            shared = {"issue": issue, "files": self._files, "environment": self._question.context.environment}
            made = opening(self._solver.profile, "select", **shared, choices=choices)
            return made, sum(await sizes_of(made, self._model))

        messages, size = await composed()
        while size > room and self._files:
            size -= await self._model.count_tokens(self._files.pop().text)
            if size <= room or not self._files:
                messages, size = await composed()
        for limit in (40_000, 10_000, 2_500, 600):  # characters
            if size <= room:
                break
            choices = [choice | {"diff": shortened(str(choice["diff"]), limit)} for choice in choices]
            messages, size = await composed()
        return messages

    def _choices(self) -> list[dict[str, object]]:
        """The finalists, as the template takes them."""
        places = {standing.candidate: standing for standing in self._end.count.standings}
        candidates = self._end.count.ballot.candidates
        return [
            {"number": number, "diff": candidates[c].patch.diff, "votes": places[c].votes, "cluster": places[c].cluster}
            for number, c in enumerate(self._finalists, 1)
        ]

    def _labelled(self, executions: Sequence[Execution]) -> list[dict[str, object]]:
        """As the template takes them."""
        labels = ["original", *(f"candidate {number}" for number in range(1, len(executions)))]
        shown: list[dict[str, object]] = [
            {"label": label, "execution": execution} for label, execution in zip(labels, executions, strict=True)
        ]
        return shown if self._solver.argues else shown[1:]
