"""Functions as HumanEval asks for them: the question, the code in a reply, and the program that judges it. Pure."""

import re
from collections.abc import Sequence

from bot.evaluation.samples import Sample
from bot.evaluation.tasks import FunctionTask
from bot.records import Execution, Message, ModelCall, SandboxJob, Test

CHECK_TIMEOUT = 15.0  # seconds
REACHED = "all of the check has run"  # printed behind it: a program that ends itself before has proved nothing

_ASKED = "Please provide a self-contained Python script that solves the following problem in a markdown code block:"
_FENCES = [
    # A fence may come twice: small models begin a block with another fence.
    re.compile(rf"```{name}[^\S\n]*\n(?:```\w*[^\S\n]*\n)*(.*?)(?:\n```|\Z)", re.DOTALL | re.IGNORECASE)
    for name in ("py(?:thon3?)?", "")
]
END_OF_CODE = ("\n```\n",)  # where a block of code ends; a nameless one may begin there, too
# What comes behind a function that a base model completes, as HumanEval's authors end it; OpenAI's API takes four.
END_OF_FUNCTION = ("\nclass ", "\ndef ", "\n#", "\nprint(")
_OUTDENTED = re.compile(r"^[^\s)\]}]", re.MULTILINE)
_IMPORT = re.compile(r"(?:from\s+\S+\s+)?import\s")


def question(task: FunctionTask) -> str:
    """What the model is asked, as EvalPlus (arXiv 2305.01210) asks chat models."""
    return f"{_ASKED}\n```\n{task.prompt.strip()}\n```\n"


def call(task: FunctionTask, sample: int, *, temperature: float, seed: int, max_tokens: int) -> ModelCall:
    """The call for one sample. Each has a seed of its own, so that samples differ and can be drawn again."""
    return ModelCall(
        key=f"eval/{task.id}/{sample}",
        messages=(Message(role="user", content=question(task)),),
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed + sample,
        scored=True,
    )


def as_completion(call: ModelCall, text: str) -> ModelCall:
    """The call as a base model is asked: to go on with the text, up to the end of a function."""
    asked = (Message(role="user", content=text),)
    return call.model_copy(update={"messages": asked, "stop": END_OF_FUNCTION, "continued": True})


def completed(task: FunctionTask, text: str) -> str:
    """The prompt with what the model went on with, to the first line that is not indented, as a reply."""
    end = _OUTDENTED.search(text)
    return f"```python\n{task.prompt}{text[: end.start()] if end else text}\n```"


def code_of(reply: str) -> str:
    """The first Python block of a reply (to its end where it is cut short), else the first nameless one, else all."""
    found = next(filter(None, (fence.search(reply) for fence in _FENCES)), None)
    return found[1] if found else reply


def has_python_block(reply: str) -> bool:
    """Whether `code_of` is known: nothing that comes behind it can change that."""
    return _FENCES[0].search(reply) is not None


def candidates_of(samples: Sequence[Sample]) -> dict[str, bool]:
    """The distinct codes of the samples in the order in which each came first, and whether each solves the task."""
    return {code_of(sample.text): sample.solves for sample in samples}


def job(task: FunctionTask, code: str) -> SandboxJob:
    """The program that judges the code: the prompt's imports before it, the task's check behind it.

    As a module that is imported, as HumanEval's own harness does it: what a reply's main block asks or prints is not
    part of the answer.
    """
    imports = [line for line in task.prompt.splitlines() if _IMPORT.match(line)]
    lacking = [line for line in imports if line not in code]
    whole = "\n".join([*lacking, code, task.check, f"check({task.entry_point})\n"])
    text = f"exec(compile({whole!r}, 'reply.py', 'exec'), {{'__name__': 'reply'}})\nprint({REACHED!r})\n"
    return SandboxJob(test=Test(path="humaneval.py", text=text), timeout=CHECK_TIMEOUT)


def solves(execution: Execution) -> bool:
    """Whether the check passed, to its end."""
    return execution.passed and execution.output.rstrip().endswith(REACHED)
