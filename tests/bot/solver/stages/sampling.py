"""A small repository with a wrong `add`, and trajectories over it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bot.contracts import Model, Progress, Sandbox
from bot.llm.conversation import fitted_issue
from bot.records import (
    Checkout,
    Context,
    Execution,
    Issue,
    Message,
    SandboxJob,
    SourceFile,
    Trajectory,
)
from bot.settings import SolverSettings
from bot.solver.profile import ResolvedSolver, resolve
from bot.solver.stages.trajectories import Sampler
from tests.checkouts import checkout_of
from tests.fakes import PASSED, FakeProgress, FakeSandbox, exited
from tests.scripted import Script, ScriptedModel, rules

ISSUE = Issue(title="add is wrong", body="`add(1, 2)` gives -1, expected 3")
MOD = "def add(a, b):\n    return a - b\n"
CONTEXT = Context(files=(SourceFile(path="mod.py", text=MOD),), tokens=10)
TEST = '<test path="t.py">\nfrom mod import add\nassert add(1, 2) == 3\n</test>'
OTHER_TEST = TEST.replace("3", "3, 'sum'")


def edit(new: str, path: str = "mod.py") -> str:
    return f'<edit path="{path}">\n<<<<<<< SEARCH\n    return a - b\n=======\n    {new}\n>>>>>>> REPLACE\n</edit>'


FIX = edit("return a + b")


def real(job: SandboxJob) -> Execution:
    """Runs the test for real, in this process: `mod.add` of the tree, and the script."""
    tree = {"mod.py": MOD} | {c.path: c.text for c in job.changes}
    assert job.test is not None
    module: dict[str, Any] = {}
    exec(tree["mod.py"] or "", module)
    try:
        exec(re.sub(r"^from mod import add$", "", job.test.text, flags=re.M), {"add": module["add"]})
    except Exception as error:
        return exited(1, f"{type(error).__name__}: {error}\n")
    return PASSED


def solver(profile: str = "full", **settings: Any) -> ResolvedSolver:
    chosen = SolverSettings(profile=profile, **{"trajectories": 1, **settings})
    return resolve(chosen, ScriptedModel(lambda k, m: "", context_window=32_768))


async def sample_trajectories(
    issue: Issue,
    context: Context,
    checkout: Checkout,
    model: Model,
    sandbox: Sandbox,
    solver: ResolvedSolver,
    progress: Progress,
) -> tuple[Trajectory, ...]:
    """All of them at once, as a run without a rule that stops it samples them."""
    sampler = Sampler(await fitted_issue(issue, model), context, checkout, model, sandbox, solver)
    return (await sampler.sampled(progress))[0]


async def sample(root: Path, model: Any, sandbox: Any = None, **settings: Any) -> tuple[Trajectory, ...]:
    return await sample_trajectories(
        ISSUE, CONTEXT, checkout_of(root), model, sandbox or FakeSandbox(real), solver(**settings), FakeProgress()
    )


def asked(model: ScriptedModel, key: str) -> str:
    """What the model was told last before it answered that call."""
    return next(call.messages[-1].content for call in model.calls if call.key == key)


def by_call(tests: Sequence[str], edits: Sequence[str]) -> Script:
    """The replies to a machine's calls in turn, the last for ever, whatever the conversation holds."""

    def reply(key: str, messages: Sequence[Message]) -> str:
        texts = edits if "/edit/" in key else tests
        return texts[min(int(key.rpartition("/")[2]), len(texts)) - 1]

    return reply


HAPPY: Script = rules([("/test/", [TEST, "It fails as it should.\n<approve/>"]), ("/edit/", [FIX, "<done/>"])])
