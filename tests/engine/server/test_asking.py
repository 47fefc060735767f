"""What clients ask of prompts, thoughts and log-probabilities, and how other clients than OpenAI's are met."""

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from openai import OpenAI

from engine.core import Core
from engine.errors import LoadError
from engine.loop import EngineLoop
from engine.server.api import create_app
from engine.server.elsewhere import instead_of
from engine.server.protocol import usable_defaults
from engine.server.service import Serving
from tests.engine.server import parrot
from tests.engine.server.serving import serve
from tests.engine.server.test_tools import ASK, CALL, MOVE, client_of
from tests.patience import PATIENCE

OFF: Any = {"chat_template_kwargs": {"enable_thinking": False}}


def told(client: OpenAI, **more: Any) -> dict[str, Any]:
    """The message as the server sent it, the same whether it was streamed."""
    asked: Any = {"model": "tiny", "messages": ASK, **more}
    (choice,) = client.chat.completions.create(**asked).choices
    whole = choice.message.model_dump(exclude_none=True)
    parts: dict[str, str] = {}
    for chunk in client.chat.completions.create(**asked, stream=True):
        for key, value in chunk.choices[0].delta.model_dump(exclude_none=True).items():
            if key in ("content", "reasoning_content"):
                parts[key] = parts.get(key, "") + value
    texts = ("content", "reasoning_content")
    assert {key: value for key, value in parts.items() if value} == {k: whole[k] for k in texts if whole.get(k)}
    return whole


def test_thoughts_apart():
    with client_of(parrot.THINKING, "<think>\nfar\n</think>\n\nNot far.") as client:
        assert told(client) == {"role": "assistant", "content": "Not far.", "reasoning_content": "far"}
        assert told(client, extra_body={"include_reasoning": False}) == {"role": "assistant", "content": "Not far."}
        cut = told(client, max_tokens=10)
        assert "content" not in cut
        assert "far".startswith(cut.get("reasoning_content", "f"))
    with client_of(parrot.ALWAYS_THINKING, f"far\n</think>\n\n{CALL}") as client:
        both = told(client, tools=[MOVE])
        assert (both["reasoning_content"], both["tool_calls"][0]["function"]["name"]) == ("far", "move")
        refused = httpx.post(f"{client.base_url}chat/completions", json={"messages": ASK, "reasoning_effort": "none"})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "reasoning_effort")
    with client_of(parrot.THINKING, "<think>a</think>b", Serving(reasoning_parser="none")) as client:
        assert told(client)["content"] == "<think>a</think>b"


def test_what_reaches_the_template():
    def reply(prompt: str) -> str:
        return json.dumps(prompt[prompt.rindex("<|user|>") :].replace("|>", ">"))  # no special tokens

    with client_of(parrot.THINKING, reply) as client:
        begin = "<|user>how far?<|end><|assistant>"
        assert json.loads(told(client)["content"]) == begin
        assert json.loads(told(client, extra_body=OFF)["content"]) == begin + "<think>\n\n</think>\n\n"
        assert json.loads(told(client, reasoning_effort="none")["content"]) == begin + "<think>\n\n</think>\n\n"
        assert json.loads(told(client, reasoning_effort="high")["content"]) == begin
        ended = told(client, extra_body={"add_generation_prompt": False})
        assert json.loads(ended["content"]) == "<|user>how far?<|end>"
        prefill: Any = [*ASK, {"role": "assistant", "content": "It is "}]
        more = told(
            client, messages=prefill, extra_body={"continue_final_message": True, "add_generation_prompt": False}
        )
        assert json.loads(more["content"]) == begin + "It is "
        thought: Any = [*ASK, {"role": "assistant", "content": "<think>It"}]
        within = told(client, messages=thought, extra_body={"continue_final_message": True})
        assert "content" not in within
        counted = {"messages": prefill, "continue_final_message": True, "tools": [MOVE]}
        url = str(client.base_url).removesuffix("/v1/")
        tokens = httpx.post(f"{url}/tokenize", json=counted).json()["tokens"]
        text = httpx.post(f"{url}/detokenize", json={"tokens": tokens}).json()["prompt"]
        assert text.startswith('<|system|>{"type": "function"')
        assert text.endswith("<|assistant|>It is ")
    with client_of(parrot.HARMONY, lambda prompt: f"<|channel|>final<|message|>{prompt[:17]}") as client:
        assert told(client, reasoning_effort="low")["content"].startswith("Reasoning: low")
        refused = httpx.post(f"{client.base_url}chat/completions", json={"messages": ASK, "reasoning_effort": "none"})
        assert "low, medium, high" in refused.json()["error"]["message"]


@pytest.fixture(scope="module")
def random_url() -> Iterator[tuple[str, Core]]:
    core = parrot.random_core(parrot.THINKING)
    core.model.defaults = {"repetition_penalty": 1.7, "temperature": 0.0}
    with serve(create_app(EngineLoop(core, threads=1), "tiny")) as url:
        yield url, core


def post(url: str, path: str, **body: Any) -> Any:
    answer = httpx.post(f"{url}/v1/{path}", json=body, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_json_after_thoughts_or_without(random_url: tuple[str, Core]):
    url, core = random_url
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["up", "down"]}}}
    asked = {"messages": ASK, "response_format": form, "max_tokens": 300, "temperature": 1, "seed": 5}
    (choice,) = post(url, "chat/completions", **asked, **OFF)["choices"]
    assert json.loads(choice["message"]["content"]) in ("up", "down")
    assert "reasoning_content" not in choice["message"]
    (begin,) = core.tokenizer.encode("<", special=False)
    (choice,) = post(url, "chat/completions", **asked, logit_bias={str(begin): 30})["choices"]
    assert choice["message"]["reasoning_content"]  # thoughts are free, what follows is not


def test_prompt_logprobs(random_url: tuple[str, Core]):
    url, _ = random_url
    asked = {"prompt": "the quick brown fox", "max_tokens": 1, "prompt_logprobs": 2}
    (choice,) = post(url, "completions", **asked, echo=True, logprobs=0, return_token_ids=True)["choices"]
    scores, legacy = choice["prompt_logprobs"], choice["logprobs"]
    assert scores[0] is None
    assert len(scores) == len(choice["prompt_token_ids"]) == len(legacy["tokens"]) - 1
    for token, found, logprob in zip(choice["prompt_token_ids"], scores, legacy["token_logprobs"], strict=False):
        if found is not None:
            own = found[str(token)]
            assert own["logprob"] == pytest.approx(logprob, abs=1e-5)
            ranked = sorted(found.values(), key=lambda entry: entry["rank"])
            assert [entry["rank"] for entry in ranked[:2]] == [1, 2]
            assert len(found) == (2 if own["rank"] <= 2 else 3)
            assert all(a["logprob"] >= b["logprob"] for a, b in itertools.pairwise(ranked))
    chat = post(url, "chat/completions", messages=ASK, max_tokens=2, n=2, prompt_logprobs=0, return_token_ids=True)
    assert len(chat["prompt_logprobs"]) == len(chat["prompt_token_ids"]) == chat["usage"]["prompt_tokens"]
    assert [len(choice["token_ids"]) for choice in chat["choices"]] == [2, 2]


def test_token_ids_of_a_stream_are_those_of_the_whole(random_url: tuple[str, Core]):
    url, _ = random_url
    asked = {"prompt": ["the", "fox"], "max_tokens": 9, "stop": "x", "return_token_ids": True, "ignore_eos": None}
    whole = post(url, "completions", **asked)
    assert [len(choice["token_ids"]) for choice in whole["choices"]] == [9, 9] or whole["usage"][
        "completion_tokens"
    ] < 18
    tokens: dict[int, list[int]] = {0: [], 1: []}
    prompts: dict[int, list[int]] = {}
    with httpx.stream("POST", f"{url}/v1/completions", json={**asked, "stream": True}, timeout=PATIENCE) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: {"):
                (choice,) = json.loads(line[6:])["choices"]
                tokens[choice["index"]] += choice["token_ids"]
                prompts.update({choice["index"]: ids} if (ids := choice.get("prompt_token_ids")) else {})
    assert tokens == {choice["index"]: choice["token_ids"] for choice in whole["choices"]}
    assert prompts == {choice["index"]: choice["prompt_token_ids"] for choice in whole["choices"]}
    plain = post(url, "completions", prompt="the", max_tokens=2)["choices"][0]
    assert not {"token_ids", "prompt_token_ids", "prompt_logprobs"} & set(plain)


def test_bad_words(random_url: tuple[str, Core]):
    url, core = random_url
    encode, text = core.tokenizer.encode, core.tokenizer.text
    asked = {"prompt": "the", "max_tokens": 20, "temperature": 0, "ignore_eos": True, "return_token_ids": True}
    said = post(url, "completions", **asked)["choices"][0]["token_ids"]
    spans = [said[at : at + length] for length in (1, 2) for at in range(len(said))]
    words = [text(span) for span in spans if encode(text(span)) == span][::3]
    assert {len(encode(word)) for word in words} == {1, 2}
    other = post(url, "completions", **asked, bad_words=words)["choices"][0]["token_ids"]
    assert other != said
    for word in words:
        tokens = encode(word)
        assert not any(other[at : at + len(tokens)] == tokens for at in range(len(other)))


def test_the_models_own_defaults_apply_unless_they_are_ignored(random_url: tuple[str, Core]):
    url, core = random_url
    asked = {"prompt": "the quick", "max_tokens": 30, "ignore_eos": True}
    own = post(url, "completions", **asked)["choices"]
    assert own == post(url, "completions", **asked, repetition_penalty=1.7, temperature=0)["choices"]
    assert own != post(url, "completions", **asked, repetition_penalty=1)["choices"]
    other = parrot.random_core(parrot.THINKING)
    other.model.defaults = core.model.defaults
    with serve(create_app(EngineLoop(other, threads=1), "tiny", serving=Serving(model_defaults=False))) as plain:
        ignored = post(plain, "completions", **asked, temperature=0)["choices"]
        assert ignored == post(url, "completions", **asked, repetition_penalty=1, temperature=0)["choices"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", "hot"), ("temperature", -1), ("top_p", 0), ("top_k", 5.5), ("max_new_tokens", "x")],
)
def test_defaults_that_no_request_could_ask_for_end_the_start(field: str, value: Any):
    with pytest.raises(LoadError, match=rf"generation_config.json: {field} is {value!r} .*--generation-config none"):
        usable_defaults({"eos_token_id": 5, field: value})


def test_other_defaults_are_used():
    found = {"temperature": 0.6, "top_k": None, "top_p": 1, "max_new_tokens": 2048, "transformers_version": "5"}
    assert usable_defaults(found) == found


def test_a_prompt_of_null_is_the_beginning_of_a_text(random_url: tuple[str, Core]):
    url, core = random_url
    (choice,) = post(url, "completions", prompt=None, max_tokens=1, return_token_ids=True)["choices"]
    assert choice["prompt_token_ids"] == [core.tokenizer.eos_token_id]


NULLABLE = """
frequency_penalty logit_bias logprobs top_logprobs max_completion_tokens n presence_penalty response_format seed stop
stream stream_options temperature top_p tools tool_choice parallel_tool_calls reasoning_effort service_tier store
metadata functions function_call user ignore_eos
"""


def test_null_wherever_openai_allows_it(random_url: tuple[str, Core]):
    url, _ = random_url
    empty = {"role": "assistant", "content": None, "name": None, "refusal": None, "tool_calls": None, "audio": None}
    asked = {"messages": [empty, *ASK], "max_tokens": 1, **dict.fromkeys(NULLABLE.split())}
    assert post(url, "chat/completions", **asked)["choices"]


# -- other clients -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("origins", [("https://chat.example.org",), ("*",), ()])
def test_web_pages_of_other_origins(make_core: Callable[..., Core], origins: tuple[str, ...]):
    asked = {"origin": "https://chat.example.org", "access-control-request-method": "POST",
             "access-control-request-headers": "authorization,content-type"}  # fmt: skip
    app = create_app(EngineLoop(make_core(), threads=1), "tiny", "key", Serving(cors_origins=origins))
    with serve(app) as url:
        before = httpx.options(f"{url}/v1/chat/completions", headers=asked)
        answer = httpx.get(f"{url}/v1/models", headers={"origin": asked["origin"], "authorization": "Bearer key"})
        stranger = httpx.get(f"{url}/v1/models", headers={"origin": "https://evil.example"})
    allow = "access-control-allow-origin"
    assert (before.status_code == 200) == bool(origins)
    assert answer.headers.get(allow) == (None if not origins else "*" if "*" in origins else asked["origin"])
    assert stranger.status_code == 401
    assert stranger.headers.get(allow) == ("*" if "*" in origins else None)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1/responses", "/v1/chat/completions"),
        ("/v1/responses/abc/input_items", "/v1/chat/completions"),
        ("/v1/messages", "/v1/chat/completions"),
        ("/v1/messages/count_tokens", "/tokenize"),
        ("/v1/embeddings", "embedding model"),
        ("/chat/completions", "/v1"),
        ("/v1/audio/speech", "text only"),
    ],
)
def test_paths_of_other_apis_say_what_to_use(random_url: tuple[str, Core], path: str, words: str):
    answer = httpx.post(f"{random_url[0]}{path}", json={})
    assert answer.status_code == 404
    assert words in answer.json()["error"]["message"]
    assert path in answer.json()["error"]["message"]
    assert instead_of("/v1/other") is None
