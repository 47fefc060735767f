from bot.records import Message, ModelCall
from tests.bench.bench_characters import AT_LOOKS, BLOCK, CASES, GOAL, Capable, by_stage, computed, summary
from tests.bench.summary import Row


def call(key: str, *texts: str) -> ModelCall:
    messages = tuple(Message(role="user", content=text) for text in texts)
    return ModelCall(key=key, messages=messages, max_tokens=1, temperature=0.0, seed=0)


def test_what_an_earlier_prompt_began_with_is_sent_and_not_computed() -> None:
    text = "".join(f"line {n:04}\n" for n in range(200))
    calls = [call("trajectory/0/test/1", text), call("trajectory/0/test/2", text, "more"), call("selection/1", text)]
    assert by_stage(calls) == {"trajectory": 2 * len(text) + 4, "selection": len(text)}
    assert len(text) < computed(calls) < len(text) + 3 * BLOCK
    elsewhere = call("selection/2", "x", text)  # the same text after another beginning
    assert computed([*calls, elsewhere]) > 2 * len(text)


def test_the_script_looks_as_often_as_it_is_told() -> None:
    case = CASES[0]
    asked, said = Message(role="user", content=""), Message(role="assistant", content="")
    replies = [Capable(case, 2)("trajectory/0/edit/1", [*[said] * n, asked]) for n in range(4)]
    assert [reply.count("<run>") for reply in replies] == [2, 2, 0, 0]
    assert replies[2].startswith(f'<edit path="{case.path}">')
    assert replies[3] == "<done/>"


def test_the_goal_is_held_up_to_two_looks_for_what_is_sent() -> None:
    row = {"package": "a==1", "sent": 5, "computed": 1, "baseline": {"sent": 10, "computed": 4}}
    row |= {"ratio": {"sent": 0.5, "computed": 0.25}}
    met = [Row(**one).met for one in summary([row | {"looks": AT_LOOKS}, row | {"looks": AT_LOOKS + 1}])]
    assert met == [GOAL >= 0.5, None, None, None]
