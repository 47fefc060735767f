"""A chat model behind any OpenAI-compatible endpoint, through the `openai` client.

What endpoints differ in is found out and remembered: the model's name, its context window, the parameters that it
refuses, whether it takes a system message. A reply is text without the model's private thoughts.
"""

import asyncio
import random
import re
import time
from collections.abc import Sequence
from typing import Any, Literal, NoReturn
from urllib.parse import quote, urlsplit

import openai

from bot.errors import EndpointError
from bot.llm.completion import read_completion
from bot.llm.token_count import TokenCounter
from bot.records import FinishReason, Message, ModelCall, Reply, Usage
from bot.settings import ModelSettings

DEFAULT_WINDOW = 131_072  # tokens, where neither the settings nor the endpoint say
_LONGEST_WAIT = 120.0  # seconds that a `retry-after` is honoured for
_TIMEOUT_RETRIES = 1  # a call that timed out is seldom answered later
_BUSY = (429, 503, 529)  # the endpoint is well but has too much to do: worth more patience
_BUSY_PATIENCE = 3  # times as many tries
_CPU_TIMEOUT = 3600.0  # seconds a call where the endpoint is a CPU's: it waits its turn behind others, for long
_WINDOW_FIELDS = ("max_model_len", "context_length", "context_window", "max_context_length")
_OVERFLOW = re.compile(
    r"context.{0,20}(length|window|size)|maximum (context|prompt|input)|(prompt|input).{0,30}too (long|large)"
    r"|exceeds? .{0,40}(context|token limit)|too many (input )?tokens|reduce the length",
    re.IGNORECASE | re.DOTALL,
)
_TOLD_WINDOW = re.compile(r"(?:context (?:length|window|size)|n_ctx)[^\d]{0,40}(\d{3,8})", re.IGNORECASE)


class OpenAIModel:
    """See `bot.contracts.Model`. Call `connect` once before `name` and `context_window` are read."""

    def __init__(
        self,
        settings: ModelSettings,
        role: Literal["main", "relevance"],
        default_base_url: str = "",
        user: str | None = None,
    ) -> None:
        """`role` names the settings in messages; `default_base_url` is used where they hold none; `user` is sent."""
        self._settings = settings
        self._prefix = f"TROOP_{role.upper()}_"
        self._base_url = settings.base_url or default_base_url
        if not self._base_url:
            raise EndpointError(f"no model endpoint: set {self._prefix}BASE_URL, e.g. http://127.0.0.1:8100/v1")
        if not urlsplit(self._base_url).scheme:
            self._base_url = f"http://{self._base_url}"
        self._client = self._open(self._base_url)
        self._counter = TokenCounter(self._client, settings.tokenizer)
        self._name = settings.name
        self._listed: tuple[str, ...] = ()
        self._window = settings.context_window
        self._told = self._window > 0  # whether somebody said how large the window is, or it is assumed
        self._user = user
        self._on_cpu = False
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._connecting = asyncio.Lock()
        self._connected = False
        self._answered = False  # whether any call was ever answered
        self._last_answer = 0.0  # monotonic seconds
        self._dropped: set[str] = set()  # parameters that the endpoint refuses
        self._limit_name = "max_tokens"
        self._most_output = 0  # tokens of a reply that the endpoint allows, where it said so
        self._system_refused = False
        self._takes_grammars = False  # in the dialect that Troop's own engine reads

    @property
    def name(self) -> str:
        return self._name

    @property
    def base_url(self) -> str:
        return self._base_url

    @property
    def context_window(self) -> int:
        return self._window or DEFAULT_WINDOW

    @property
    def on_cpu(self) -> bool:
        return self._on_cpu

    async def close(self) -> None:
        """Close the connections. Safe to call twice."""
        await self._client.close()

    def _open(self, base_url: str) -> openai.AsyncOpenAI:
        local = urlsplit(base_url).hostname in ("localhost", "127.0.0.1", "::1")
        return openai.AsyncOpenAI(
            base_url=base_url,
            api_key=self._settings.api_key.get_secret_value() or "none",
            max_retries=0,  # retried here, where what was learned changes the call
            timeout=self._settings.timeout,
            http_client=openai.DefaultAsyncHttpxClient(trust_env=False) if local else None,  # no proxy to ourselves
        )

    # -- finding out about the endpoint ---------------------------------------------------------------------------

    async def connect(self) -> None:
        """Find the model's name and window. Raises `EndpointError` where there is no endpoint, key or model.

        Safe to call twice; `reply` calls it too.
        """
        async with self._connecting:
            if not self._connected:
                await self._find_model()
                self._connected = True

    async def _find_model(self) -> None:
        models = await self._list_models()
        if models is None and not self._base_url.rstrip("/").endswith("/v1"):
            with_v1 = self._open(self._base_url.rstrip("/") + "/v1")
            without, self._client = self._client, with_v1
            models = await self._list_models()
            if models is None:
                self._client = without
                await with_v1.close()
            else:
                await without.close()
                self._base_url = self._base_url.rstrip("/") + "/v1"
                self._counter = TokenCounter(with_v1, self._settings.tokenizer)
        self._listed = tuple(str(model["id"]) for model in models or ())
        if not self._name:
            if not self._listed:
                self._give_up("lists no models", f"set {self._prefix}NAME to the model's name")
            self._name = self._listed[0]
        entry: dict[str, Any] = next((model for model in models or () if model["id"] == self._name), {})
        self._on_cpu = entry.get("device") == "cpu"
        ways = entry.get("structured_outputs")
        self._takes_grammars = isinstance(ways, list) and "lark" in ways
        if not self._window:
            sizes = [entry.get(field) for field in _WINDOW_FIELDS]
            self._window = next((size for size in sizes if isinstance(size, int) and size > 0), 0)
            self._told = self._window > 0

    async def _list_models(self) -> list[dict[str, Any]] | None:
        """The endpoint's models; None where it does not list them."""
        for attempt in range(self._settings.retries + 1):
            try:
                answer = await self._client.get("/models", cast_to=object, options={"timeout": 30.0})
                data = answer.get("data") if isinstance(answer, dict) else answer
                entries = data if isinstance(data, list) else []
                return [entry for entry in entries if isinstance(entry, dict) and entry.get("id")]
            except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
                self._refuse_key(error)
            except (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError) as error:
                if attempt == self._settings.retries:
                    self._unreachable(error)
                await asyncio.sleep(_wait(attempt, error))
            except (openai.OpenAIError, ValueError):
                return None
        return None

    def _give_up(self, what: str, mend: str) -> NoReturn:
        raise EndpointError(f"the model endpoint {self._base_url} {what}: {mend}")

    def _refuse_key(self, error: openai.APIStatusError) -> NoReturn:
        self._give_up(f"refuses the key (HTTP {error.status_code})", f"set {self._prefix}API_KEY")

    def _unreachable(self, error: Exception) -> NoReturn:
        why = " ".join(str(error.__cause__ or error).split())[:200]
        self._give_up(f"can't be reached ({why})", f"start it, or set {self._prefix}BASE_URL")

    # -- calls ----------------------------------------------------------------------------------------------------

    async def count_tokens(self, text: str) -> int:
        await self.connect()
        return await self._counter.count(self._name, text)

    async def reply(self, call: ModelCall) -> Reply:
        """See `bot.contracts.Model.reply`. A slot is held while waiting for a retry, to ease the endpoint."""
        await self.connect()
        started = time.monotonic()
        async with self._slots:
            reply = await self._persist(call)
        usage = reply.usage.model_copy(update={"seconds": time.monotonic() - started} if reply.failed else {})
        return reply.model_copy(update={"usage": usage})

    async def _persist(self, asked: ModelCall) -> Reply:
        attempt = timeouts = 0
        limit = asked.max_tokens
        tries = self._settings.retries + 1
        while True:
            started = time.monotonic()
            sent, assumed = self._parameters(limit, asked), self.context_window
            shown = _without_system(asked.messages) if self._system_refused else asked.messages
            try:
                return await self._call(asked.key, shown, sent)
            except openai.APIStatusError as error:
                status, text = error.status_code, _message_of(error)
                if status in (400, 413, 422):
                    shorter = self._adapt(error, text, limit, sent, shown)
                    if shorter is None and _OVERFLOW.search(text) and self.context_window == assumed and not self._told:
                        self._window = assumed // 2  # nobody said how large it is: not as large as that
                    if shorter is None:
                        if _OVERFLOW.search(text) or status == 413:
                            return _failure(
                                f"the endpoint refused the prompt as too long (HTTP {status}): {_said(error)[:500]}",
                                FinishReason.OVERFLOW,
                            )
                        return _failure(f"the endpoint refused the call (HTTP {status}): {_said(error)[:500]}")
                    limit = shorter
                    continue
                if status in (401, 403):
                    self._refuse_key(error)
                if status == 404:
                    listed = ", ".join(self._listed[:5]) or "none"
                    self._give_up(
                        f"has no chat model {self._name!r} (HTTP 404: {_said(error)[:200]})",
                        f"set {self._prefix}NAME (it lists: {listed}) or mend {self._prefix}BASE_URL",
                    )
                if status == 402 or "insufficient_quota" in f"{error.code} {text}":
                    self._give_up(f"says that the account is spent (HTTP {status})", "add credit, or set another key")
                failure: Exception = error
                why = f"HTTP {status}: {_said(error)[:300]}"
                if status in _BUSY:
                    tries = self._settings.retries * _BUSY_PATIENCE + 1
            except (TimeoutError, openai.APITimeoutError) as error:
                if not self._answered:
                    self._give_up(
                        f"has answered nothing within {self._patience:.0f} s",
                        f"look at its log; if it is that slow, raise {self._prefix}FIRST_ANSWER_TIMEOUT",
                    )
                failure, why = error, f"no answer within {self._timeout:.0f} s"
                timeouts += 1
                # Where no other call was answered meanwhile either, the endpoint hangs as a whole.
                if timeouts > _TIMEOUT_RETRIES or self._last_answer < started:
                    return _failure(why)
            except openai.APIConnectionError as error:
                if attempt >= self._settings.retries:
                    self._unreachable(error)
                failure, why = error, str(error)
            except (openai.OpenAIError, ValueError, TypeError, AttributeError) as error:
                failure, why = error, f"malformed answer: {' '.join(str(error).split())[:300]}"
            if attempt + 1 >= tries:
                return _failure(f"the endpoint gave up after {attempt + 1} tries: {why}")
            await asyncio.sleep(_wait(attempt, failure))
            attempt += 1

    @property
    def _timeout(self) -> float:
        """Seconds a call: what is set, else more where all is slow."""
        patient = self._on_cpu and "timeout" not in self._settings.model_fields_set
        return _CPU_TIMEOUT if patient else self._settings.timeout

    @property
    def _patience(self) -> float:
        """Seconds for the first answer of all."""
        patient = self._on_cpu and "first_answer_timeout" not in self._settings.model_fields_set
        return min(self._timeout, _CPU_TIMEOUT if patient else self._settings.first_answer_timeout)

    def _parameters(self, limit: int, asked: ModelCall) -> dict[str, Any]:
        """What is sent beside the messages, as far as the endpoint is known to take it."""
        parameters: dict[str, Any] = {
            self._limit_name: min(limit, self._most_output or limit),
            "temperature": asked.temperature,
            "seed": asked.seed,
            "user": self._user,
        }
        if asked.grammar and self._takes_grammars:
            parameters["structured_outputs"] = {"grammar": asked.grammar}
        return {k: v for k, v in parameters.items() if v is not None and k not in self._dropped}

    async def _call(self, key: str, messages: Sequence[Message], parameters: dict[str, Any]) -> Reply:
        body = {"model": self._name, "messages": [message.model_dump() for message in messages], **parameters}
        headers = {"X-Troop-Call": quote(key)}  # for the endpoint's log
        started = time.monotonic()
        call = self._client.post(
            "/chat/completions",
            body=body,
            cast_to=object,
            options={"headers": headers, "max_retries": 0, "timeout": self._timeout},
        )
        answer = await self._in_time(asyncio.ensure_future(call))
        return read_completion(answer, time.monotonic() - started)

    async def _in_time(self, call: "asyncio.Future[object]") -> object:
        """The call's answer. A trickle of bytes does not extend the time, as it would the client's own time-out."""
        try:
            if not self._answered:
                done, _ = await asyncio.wait((call,), timeout=self._patience)
                if not done and not self._answered:
                    raise TimeoutError
                async with asyncio.timeout(max(0.0, self._timeout - self._patience)):
                    answer = await call
            else:
                async with asyncio.timeout(self._timeout):
                    answer = await call
            self._answered = True
            self._last_answer = time.monotonic()
            return answer
        finally:
            if not call.done():
                call.cancel()

    def _adapt(
        self, error: openai.APIStatusError, text: str, limit: int, sent: dict[str, Any], shown: Sequence[Message]
    ) -> int | None:
        """Learn from a refused call: the token limit to try again with, or None where nothing is left to try.

        Calls run side by side: what this one `sent` may be what another has learned to leave out meanwhile.
        """
        told = _TOLD_WINDOW.search(text)
        if _OVERFLOW.search(text):
            if told and (not self._window or int(told[1]) < self._window):
                self._window, self._told = int(told[1]), True
            # The window holds prompt and reply together: a shorter reply may be all that it takes.
            return limit // 2 if limit >= 512 and "token" in text else None
        named = f"{error.param or ''} {text}"
        if "max_tokens" in sent and "max_completion_tokens" in named:
            self._limit_name = "max_completion_tokens"
            return limit
        asked = next((sent[name] for name in ("max_tokens", "max_completion_tokens") if name in sent), 0)
        if re.search(r"max_(completion_|output_|new_)?tokens", named) and asked >= 256:
            if not self._most_output or asked <= self._most_output:
                self._most_output = asked // 2
            return limit
        for parameter in ("structured_outputs", "seed", "temperature", self._limit_name):
            if re.search(rf"\b{parameter}\b", named) and parameter in sent:
                self._dropped.add(parameter)
                return limit
        if re.search(r"system.{0,20}(role|message|prompt|instruction)|roles must alternate", text, re.IGNORECASE):
            self._system_refused = True
            return limit if shown[0].role == "system" else None
        for parameter in ("user", "seed"):  # strict servers do not always say which field was too many
            if parameter in sent and (error.status_code == 422 or re.search(rf"\b{parameter}\b", named)):
                self._dropped.add(parameter)
                return limit
        return None


def _wait(attempt: int, error: Exception) -> float:
    """Seconds until the next try: what the endpoint asked for, else exponential with jitter."""
    if isinstance(error, openai.APIStatusError):
        for header, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
            try:
                return min(_LONGEST_WAIT, max(0.0, float(error.response.headers[header]) * unit))
            except (KeyError, ValueError):
                continue
    return float(min(30.0, 0.5 * 2**attempt) * random.uniform(0.75, 1.25))


def _message_of(error: openai.APIStatusError) -> str:
    """What the endpoint said, whatever form it has."""
    return " ".join(str(error.body if error.body is not None else error.message).split())


def _said(error: openai.APIStatusError) -> str:
    """The endpoint's message for people."""
    message = error.body.get("message") if isinstance(error.body, dict) else None
    return " ".join(message.split()) if isinstance(message, str) else _message_of(error)


def _failure(why: str, end: FinishReason = FinishReason.ERROR) -> Reply:
    return Reply(text=why, finish_reason=end, usage=Usage(calls=1))


def _without_system(messages: Sequence[Message]) -> Sequence[Message]:
    """The system message joined to the first user message, for chat templates that know no system role."""
    if not messages or messages[0].role != "system":
        return messages
    first = messages[1].model_copy(update={"content": f"{messages[0].content}\n\n{messages[1].content}"})
    return [first, *messages[2:]]
