import asyncio
import gc
import inspect
import socket
import threading
from typing import Any

import pytest
import uvicorn
from pydantic import SecretStr

from bot.errors import EndpointDown, EndpointError, SettingsError
from bot.llm import client
from bot.llm.client import OpenAIModel
from bot.records import FinishReason
from bot.settings import ModelSettings
from tests.bot.llm.asking import ask, greeting, hello, model_for
from tests.fakes import Partly
from tests.patience import eventually
from tests.scripted import Mode
from tests.scripted_endpoint import scripted_endpoint

pytestmark = pytest.mark.usefixtures("no_waiting")


async def test_finds_name_and_window_and_counts_usage() -> None:
    with scripted_endpoint(hello, context_window=4096) as endpoint:
        model = model_for(endpoint)
        await model.connect()
        assert (model.name, model.context_window) == ("scripted", 4096)
        first = await model.reply(greeting("k/1", seed=3))
        again = await ask(model)
    assert first.text == "hello"
    assert first.finish_reason is FinishReason.STOP
    assert (first.usage.calls, first.usage.prompt_tokens, first.usage.cached_tokens) == (1, 5, 0)
    assert again.usage.cached_tokens == 5
    assert again.usage.completion_tokens == 2
    assert endpoint.requests[0]["max_tokens"] == 9
    assert endpoint.requests[0]["seed"] == 3
    assert endpoint.headers[1]["x-troop-call"] == "a/b%20c"


async def test_window_that_a_proxy_tells() -> None:
    with scripted_endpoint(hello, context_window=None) as endpoint:
        endpoint.listed = {"mode": "chat", "max_input_tokens": 16_000, "max_output_tokens": 4_096}
        model = model_for(endpoint)
        await ask(model)
        assert model.context_window == 16_000


async def test_window_that_the_endpoint_does_not_tell() -> None:
    with scripted_endpoint(hello, context_window=None) as endpoint:
        model = model_for(endpoint)
        await ask(model)
        assert model.context_window == 131_072
        told = model_for(endpoint, context_window=77)
        await ask(told)
        assert told.context_window == 77


def test_a_connection_is_given_up_before_an_endpoint_closes_it() -> None:
    """Most endpoints are served by uvicorn as it comes."""
    assert inspect.signature(uvicorn.Config).parameters["timeout_keep_alive"].default > client.IDLE_SECONDS


@pytest.mark.parametrize("status", [408, 504, 524])
async def test_behind_a_proxy_that_waits_no_longer_answers_are_streams(status: int, no_waiting: list[float]) -> None:
    with scripted_endpoint(hello) as endpoint:
        endpoint.answer = lambda body: None if body.get("stream") else (status, {"error": "gateway time-out"})
        model = model_for(endpoint)
        first = await model.reply(greeting("k/1"))
        second = await ask(model)
    assert (first.text, second.text) == ("hello", "hello")
    assert (first.usage.prompt_tokens, first.usage.completion_tokens) == (5, 2)
    assert [body.get("stream") for body in endpoint.requests] == [None, True, True]
    assert endpoint.requests[1]["stream_options"] == {"include_usage": True}


async def test_a_connection_that_breaks_off_in_silence_is_one_that_is_to_stream(
    monkeypatch: pytest.MonkeyPatch, no_waiting: list[float]
) -> None:
    with scripted_endpoint(hello) as endpoint:
        endpoint.next_modes = [Mode.DROP]
        assert (await ask(model_for(endpoint))).text == "hello"
        assert not any("stream" in body for body in endpoint.requests), "it broke off at once"
        monkeypatch.setattr(client, "_SILENT_SECONDS", 0.0)
        endpoint.next_modes = [Mode.DROP]
        assert (await ask(model_for(endpoint))).text == "hello"
        assert endpoint.requests[-1]["stream"]


async def test_an_endpoint_that_takes_no_stream_answers_whole(no_waiting: list[float]) -> None:
    with scripted_endpoint(hello, refuses=["stream_options", "stream"]) as endpoint:
        statuses = iter([504])
        endpoint.answer = lambda body: (status, {}) if (status := next(statuses, 0)) else None
        assert (await ask(model_for(endpoint))).text == "hello"
    assert "stream" not in endpoint.requests[-1]


async def test_v1_is_added_where_it_was_forgotten() -> None:
    with scripted_endpoint(hello) as endpoint:
        reply = await ask(OpenAIModel(ModelSettings(base_url=endpoint.base_url.removesuffix("/v1")), "main"))
        assert reply.text == "hello"


@pytest.mark.parametrize("mode", [Mode.ERROR, Mode.RATE_LIMITED, Mode.MALFORMED, Mode.DROP, Mode.NULL])
async def test_passing_trouble_is_retried(mode: Mode, no_waiting: list[float]) -> None:
    with scripted_endpoint(hello, retry_after=3.0) as endpoint:
        endpoint.next_modes = [mode, mode]
        assert (await ask(model_for(endpoint))).text == "hello"
    assert len(no_waiting) == 2
    assert no_waiting == [3.0, 3.0] or mode is not Mode.RATE_LIMITED


@pytest.mark.parametrize("mode", [Mode.ERROR, Mode.RATE_LIMITED, Mode.MALFORMED, Mode.NULL])
async def test_lasting_trouble_is_an_error_reply(mode: Mode) -> None:
    with scripted_endpoint(hello, mode=mode) as endpoint:
        reply = await ask(model_for(endpoint, retries=2))
        assert reply.failed
        tries = 7 if mode is Mode.RATE_LIMITED else 3  # more patience with one that is merely busy
        assert f"gave up after {tries} tries" in reply.text
        assert not reply.overflowed
        assert len(endpoint.requests) == tries


@pytest.mark.parametrize("mode", [Mode.HANG, Mode.SLOW])
async def test_an_endpoint_that_never_answers_is_given_up(mode: Mode) -> None:
    with scripted_endpoint(hello, mode=mode) as endpoint:
        with pytest.raises(EndpointError, match=r"answered nothing within 0 s.*FIRST_ANSWER_TIMEOUT"):
            await ask(model_for(endpoint, timeout=0.2, first_answer_timeout=0.1))
        assert len(endpoint.requests) <= 1, "it is not asked again"


class Limits:
    """The model's waits for an answer, which end when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._timeout, self._wait = asyncio.timeout, asyncio.wait
        self._later: list[asyncio.Timeout] = []  # of calls once another was answered
        self._first = asyncio.Event()  # the wait for the first answer of all is over
        as_was = client.asyncio
        monkeypatch.setattr("bot.llm.client.asyncio", Partly(as_was, timeout=self.timeout, wait=self.wait))

    def timeout(self, seconds: float | None) -> asyncio.Timeout:
        self._later.append(self._timeout(None))
        return self._later[-1]

    async def wait(self, waited: Any, **options: Any) -> Any:
        if options.get("timeout") is None:
            return await self._wait(waited, **options)
        over = asyncio.ensure_future(self._first.wait())
        done, pending = await self._wait((*waited, over), return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        return done - {over}, pending - {over}

    def __len__(self) -> int:
        """Later waits so far."""
        return len(self._later)

    def end_first(self) -> None:
        self._first.set()

    def end(self, number: int = -1) -> None:
        """End the `number`th of the later waits."""
        self._later[number].reschedule(asyncio.get_running_loop().time())


@pytest.fixture
async def limits(monkeypatch: pytest.MonkeyPatch) -> Limits:
    return Limits(monkeypatch)


async def test_an_endpoint_that_hangs_later_fails_the_call(limits: Limits) -> None:
    with scripted_endpoint(hello) as endpoint:
        model = model_for(endpoint)
        await model.reply(greeting())
        endpoint.mode = Mode.HANG
        asking = asyncio.ensure_future(ask(model))
        await eventually(lambda: len(endpoint.requests) == 2)
        limits.end()
        reply = await asking
        assert reply.failed
        assert "no answer within" in reply.text
        assert len(endpoint.requests) == 2


async def test_a_call_that_hangs_while_others_are_answered_is_tried_once_more(limits: Limits) -> None:
    with scripted_endpoint(hello) as endpoint:
        model = model_for(endpoint)
        await model.reply(greeting())
        endpoint.next_modes = [Mode.HANG]
        hanging = asyncio.ensure_future(model.reply(greeting()))
        await eventually(lambda: len(endpoint.requests) == 2)
        await model.reply(greeting())
        limits.end(-2)  # the hanging one's
        assert (await hanging).text == "hello"
        await model.close()


async def test_a_slow_first_call_may_take_longer_once_another_was_answered(limits: Limits) -> None:
    with scripted_endpoint(hello) as endpoint:
        endpoint.next_modes = [Mode.HANG]
        model = model_for(endpoint)
        hanging = asyncio.ensure_future(model.reply(greeting()))
        await eventually(lambda: endpoint.requests)
        await model.reply(greeting())
        limits.end_first()
        await eventually(lambda: len(limits) == 2)
        assert not hanging.done(), "it is given the rest of its time"
        limits.end()
        assert (await hanging).text == "hello"
        await model.close()


async def test_a_reply_is_ended_where_the_endpoint_can() -> None:
    with scripted_endpoint(hello) as endpoint:
        await ask(model_for(endpoint), stop=("\n\n",))
        assert endpoint.requests[-1]["stop"] == ["\n\n"]
    with scripted_endpoint(hello, refuses=["stop"]) as endpoint:
        model = model_for(endpoint)
        assert (await model.reply(greeting(stop=("\n\n",)))).text == "hello"
        assert (await ask(model, stop=("\n\n",))).text == "hello"
        assert ["stop" in body for body in endpoint.requests] == [True, False, False]


@pytest.mark.parametrize("parameter", ["seed", "temperature"])
async def test_refused_parameters_are_left_out_and_remembered(parameter: str) -> None:
    with scripted_endpoint(hello, refuses=[parameter]) as endpoint:
        model = model_for(endpoint)
        assert (await model.reply(greeting(seed=1))).text == "hello"
        assert (await ask(model)).text == "hello"
        assert [parameter in request for request in endpoint.requests] == [True, False, False]


async def test_the_run_is_named_where_the_endpoint_takes_it() -> None:
    with scripted_endpoint(hello) as endpoint:
        model = OpenAIModel(ModelSettings(base_url=endpoint.base_url), "main", user="troop-run-5")
        assert (await model.reply(greeting(seed=1))).text == "hello"
        assert endpoint.requests[-1]["user"] == "troop-run-5"
        endpoint.refusals["user"] = "Unsupported parameter: 'user' is not supported."
        calls = (model.reply(greeting(f"k/{i}", seed=1)) for i in range(4))
        assert [reply.text for reply in await asyncio.gather(*calls)] == ["hello"] * 4, "each learns it"
        assert "user" not in endpoint.requests[-1]
        assert endpoint.requests[-1]["seed"] == 1
        await model.close()


@pytest.mark.parametrize("ways", [None, "lark", ["json", "grammar"], 5])
async def test_grammars_only_go_where_they_are_understood(ways: object) -> None:
    with scripted_endpoint(hello) as endpoint:
        endpoint.listed = {"structured_outputs": ways}
        await ask(model_for(endpoint), grammar='start: "hello"')
        endpoint.listed = {"structured_outputs": ["json", "lark"]}
        await ask(model_for(endpoint), grammar='start: "hello"')
        await ask(model_for(endpoint))
    sent = [request.get("structured_outputs") for request in endpoint.requests]
    assert sent == [None, {"grammar": 'start: "hello"'}, None]


async def test_a_refused_grammar_is_done_without() -> None:
    with scripted_endpoint(hello, refuses=["structured_outputs"]) as endpoint:
        endpoint.listed = {"structured_outputs": ["lark"]}
        assert (await ask(model_for(endpoint), grammar="start: nothing")).text == "hello"


@pytest.mark.parametrize(
    ("device", "set_to", "seconds"),
    [(None, {}, 600), ("cuda", {}, 600), ("cpu", {}, 3600), ("cpu", {"timeout": 5.0}, 5)],
)
async def test_one_that_computes_on_a_cpu_is_given_more_time(
    device: str | None, set_to: dict[str, float], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float | None] = []

    def timeout(limit: float | None) -> asyncio.Timeout:
        limits.append(limit)
        return asyncio.Timeout(None)

    monkeypatch.setattr("bot.llm.client.asyncio", Partly(client.asyncio, timeout=timeout))
    with scripted_endpoint(hello) as endpoint:
        endpoint.listed = {"device": device}
        model = model_for(endpoint, **set_to)
        await model.connect()
        assert model.on_cpu == (device == "cpu")
        for i in range(2):
            assert (await model.reply(greeting(f"k/{i}"))).text == "hello"
        await model.close()
    assert limits[-1] == seconds


async def test_max_tokens_under_its_other_name() -> None:
    with scripted_endpoint(hello) as endpoint:
        endpoint.refusals["max_tokens"] = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        model = model_for(endpoint)
        assert (await ask(model)).text == "hello"
        assert endpoint.requests[-1]["max_completion_tokens"] == 100
        assert "max_tokens" not in endpoint.requests[-1]


@pytest.mark.parametrize("parameter", ["seed", "temperature", "max_tokens"])
async def test_calls_refused_side_by_side_learn_the_same_thing_once(parameter: str) -> None:
    with scripted_endpoint(hello, refuses=[parameter]) as endpoint:
        if parameter == "max_tokens":
            endpoint.refusals["max_tokens"] = "'max_tokens' is not supported. Use 'max_completion_tokens' instead."
        endpoint.together = threading.Barrier(3)  # all first calls are refused before any of them is tried again
        model = model_for(endpoint)
        calls = [model.reply(greeting(str(i), max_tokens=4096, seed=1)) for i in range(3)]
        assert [reply.text for reply in await asyncio.gather(*calls)] == ["hello"] * 3
        await model.close()
        last = endpoint.requests[-1]
        assert parameter not in last
        assert last.get("max_tokens", last.get("max_completion_tokens")) == 4096
        assert len(endpoint.requests) == 6


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": None, "reasoning_content": "<think>hm</think>\n<done/>"}, "<done/>"),
        ({"content": "", "reasoning": "it is <done/>"}, "it is <done/>"),
        ({"content": None, "tool_calls": [{"function": {"name": "edit", "arguments": "{}"}}]}, "there are none here"),
        ({"content": [{"type": "text", "text": "<do"}, {"type": "text", "text": "ne/>"}]}, "<done/>"),
        ({"content": None, "refusal": "I can't"}, "I can't"),
        ({"content": "<done/>", "reasoning_content": "not <done/>"}, "<done/>"),
    ],
)
async def test_a_reply_that_is_not_where_it_should_be(message: dict[str, object], text: str) -> None:
    with scripted_endpoint(hello) as endpoint:
        endpoint.message = {"role": "assistant", **message}
        reply = await ask(model_for(endpoint, retries=0))
        assert not reply.failed
        assert text in reply.text


async def test_a_smaller_reply_is_asked_for_where_the_limit_is_too_large() -> None:
    def too_large(body: dict[str, object]) -> str:
        return "max_tokens is too large: at most 4096 are supported" if int(str(body["max_tokens"])) > 4096 else ""

    with scripted_endpoint(hello) as endpoint:
        endpoint.refuse_when = too_large
        model = model_for(endpoint)
        assert (await model.reply(greeting(max_tokens=16_384))).text == "hello"
        assert (await ask(model, max_tokens=16_384)).text == "hello"
        assert [request["max_tokens"] for request in endpoint.requests] == [16_384, 8192, 4096, 4096]


async def test_system_message_is_joined_where_the_template_has_none() -> None:
    def no_system(body: dict[str, object]) -> str:
        return "System role not supported" if "'system'" in str(body["messages"]) else ""

    with scripted_endpoint(hello) as endpoint:
        endpoint.refuse_when = no_system
        assert (await ask(model_for(endpoint))).text == "hello"
        assert endpoint.requests[-1]["messages"] == [{"role": "user", "content": "be brief\n\nsay hello"}]


async def test_overflow_is_told_apart_and_teaches_the_window() -> None:
    with scripted_endpoint(hello, context_window=9000, mode=Mode.OVERFLOW) as endpoint:
        model = model_for(endpoint, context_window=131_072)
        reply = await ask(model)
        assert reply.overflowed
        assert model.context_window == 9000


@pytest.mark.parametrize(
    ("options", "settings", "said"),
    [
        ({"api_key": "right"}, {"api_key": "wrong"}, "TROOP_MAIN_API_KEY"),
        ({}, {"name": "other"}, "it lists: scripted"),
    ],
)
async def test_what_asking_again_would_not_mend(options: dict[str, str], settings: dict[str, str], said: str) -> None:
    with scripted_endpoint(hello, **options) as endpoint:
        with pytest.raises(EndpointError, match=said) as caught:
            await ask(model_for(endpoint, **settings))
        assert "wrong" not in str(caught.value)


async def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        with pytest.raises(EndpointDown, match=r"can't be reached.*TROOP_RELEVANCE_BASE_URL"):
            await ask(OpenAIModel(ModelSettings(base_url=url, retries=1), "relevance"))


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_proxy_before_an_endpoint_that_is_away(status: int, no_waiting: list[float]) -> None:
    with scripted_endpoint(hello) as endpoint:
        model = model_for(endpoint, retries=1)
        await model.connect()
        endpoint.away = lambda: status
        with pytest.raises(EndpointDown, match=rf"HTTP {status}.*start it, or set TROOP_MAIN_BASE_URL"):
            await ask(model)
        with pytest.raises(EndpointDown, match=f"HTTP {status}"):
            await ask(model_for(endpoint, retries=1))


@pytest.mark.parametrize("status", [500, 502, 504])
async def test_one_call_that_an_endpoint_fails_at_is_no_outage(status: int, no_waiting: list[float]) -> None:
    with scripted_endpoint(hello) as endpoint:
        endpoint.answer = lambda body: (status, {"error": {"message": "too much for me"}})
        reply = await ask(model_for(endpoint, retries=1))
    assert reply.failed
    assert f"HTTP {status}: too much for me" in reply.text


async def test_https_where_nobody_speaks_tls() -> None:
    with scripted_endpoint(hello) as endpoint:
        url = endpoint.base_url.replace("http://", "https://")
        with pytest.raises(EndpointDown, match=r"does not speak TLS.*begin TROOP_MAIN_BASE_URL with http://"):
            await ask(model_for(endpoint, base_url=url, retries=0))


def test_a_key_of_the_command_line_that_no_header_takes() -> None:
    settings = ModelSettings(base_url="http://127.0.0.1:1/v1").model_copy(update={"api_key": SecretStr("geheim-ü")})
    with pytest.raises(
        EndpointError, match=r"the key has characters that can't be sent.*set TROOP_MAIN_API_KEY"
    ) as caught:
        OpenAIModel(settings, "main")
    assert "geheim" not in str(caught.value)


def test_no_url_at_all() -> None:
    with pytest.raises(EndpointError, match="TROOP_MAIN_BASE_URL"):
        OpenAIModel(ModelSettings(), "main")


async def test_an_unreadable_tokenizer_names_the_setting() -> None:
    with pytest.raises(SettingsError, match="TROOP_MAIN_TOKENIZER"):
        OpenAIModel(ModelSettings(base_url="http://127.0.0.1:1/v1", tokenizer="/nowhere"), "main")


@pytest.mark.parametrize("answered", [False, True])
async def test_an_error_that_comes_as_its_caller_is_cancelled_is_told_to_nobody(answered: bool) -> None:
    """Asyncio would write it to the log with its traceback, as one that was never retrieved."""
    told: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: told.append(context["message"]))
    model = OpenAIModel(ModelSettings(base_url="http://127.0.0.1:9"), "main")
    model._answered = answered
    comes = loop.create_future()

    async def post() -> object:
        await comes
        raise ValueError("the endpoint's")

    waiting = asyncio.create_task(model._in_time(post()))
    for _ in range(3):
        await asyncio.sleep(0)
    comes.set_result(None)
    await asyncio.sleep(0)  # it has failed, and who waits for it has not gone on
    waiting.cancel()
    await asyncio.wait((waiting,))
    assert waiting.cancelled()
    del waiting
    gc.collect()
    assert told == []


async def test_calls_under_way_are_bounded() -> None:
    with scripted_endpoint(hello, latency=0.02) as endpoint:
        model = model_for(endpoint, concurrency=3)
        calls = (model.reply(greeting(str(i))) for i in range(9))
        assert all(reply.text == "hello" for reply in await asyncio.gather(*calls))
        await model.close()
        assert endpoint.most_under_way <= 3


async def test_a_reply_cut_off_at_its_limit() -> None:
    with scripted_endpoint(hello, mode=Mode.TRUNCATED) as endpoint:
        reply = await ask(model_for(endpoint))
        assert (reply.text, reply.cut_off) == ("he", True)


async def test_the_key_appears_nowhere_but_in_its_header() -> None:
    with scripted_endpoint(hello, api_key="canary-4711") as endpoint:
        model = model_for(endpoint, api_key="canary-4711")
        await ask(model)
        assert "canary" not in str(endpoint.requests) + repr(model.__dict__["_settings"])
