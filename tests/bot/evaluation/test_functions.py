import pytest

from bot.evaluation.functions import REACHED, call, code_of, job, question, solves
from bot.evaluation.tasks import FunctionTask
from bot.records import Ending, Execution

TASK = FunctionTask(
    id="HumanEval/0",
    prompt="from typing import List\n\n\ndef double(x: int) -> List[int]:\n",
    entry_point="double",
    check="def check(candidate):\n    assert candidate(2) == [2, 2]\n",
)


def program(code: str) -> str:
    test = job(TASK, code).test
    assert test is not None
    return test.text


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("Sure:\n```python\na = 1\n```\nand\n```python\nb = 2\n```", "a = 1"),
        ("```\nshown\n```\n```Python\na = 1\n```", "a = 1"),
        ("```\na = 1\n```", "a = 1"),
        ("```python\na = 1\nb =", "a = 1\nb ="),  # cut short
        ("a = 1", "a = 1"),
        ("```python\n```python\na = 1\n```\n```", "a = 1"),
        ("```python\n```\na = 1\n```", "a = 1"),
    ],
)
def test_code_is_the_first_python_block(reply: str, code: str):
    assert code_of(reply) == code


def test_the_prompts_imports_are_added_where_the_code_lacks_them():
    bare = "def double(x: int) -> List[int]:\n    return [x, x]"
    exec(program(bare), {})
    assert program(bare).count("from typing import List") == 1
    assert program(f"from typing import List\n{bare}").count("from typing import List") == 1


def test_a_wrong_answer_fails_and_a_main_block_is_not_run():
    with pytest.raises(AssertionError):
        exec(program("def double(x): return [x]"), {})
    exec(program("def double(x): return [x, x]\nif __name__ == '__main__': raise SystemExit(input())"), {})


def test_only_a_program_that_reaches_its_end_solves():
    assert solves(Execution(ending=Ending.EXITED, exit_code=0, output=f"noise\n{REACHED}\n"))
    assert not solves(Execution(ending=Ending.EXITED, exit_code=0, output=""))
    assert not solves(Execution(ending=Ending.EXITED, exit_code=1, output=REACHED))


def test_the_prompt_is_asked_for_in_a_block():
    assert question(TASK).endswith("-> List[int]:\n```\n")


def test_each_sample_has_a_seed_of_its_own():
    seeds = {call(TASK, sample, temperature=0.6, seed=7, max_tokens=9).seed for sample in range(5)}
    assert seeds == {7, 8, 9, 10, 11}
