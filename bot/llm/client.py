"""A chat model behind any OpenAI-compatible endpoint, through the `openai` client.

The model's name and window are asked for; what else endpoints differ in is learned from their errors
(`bot.llm.dialect`). A reply is text without the model's private thoughts.
"""

import asyncio
import random
import re
import time
from collections.abc import Awaitable
from typing import Any, Literal, NoReturn
from urllib.parse import quote, urlsplit

import openai
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt

from bot.errors import EndpointDown, EndpointError
from bot.llm.completion import read_completion
from bot.llm.dialect import REFUSED, AnsweredError, Dialect, Refusal, Request, asked_to_wait, check_answer
from bot.llm.event_stream import completion_of
from bot.llm.token_count import TokenCounter, estimate
from bot.records import FinishReason, ModelCall, Reply, Usage
from bot.settings import ModelSettings
from bot.settings.credentials import masked_address
from bot.settings.endpoints import header_secret
from bot.tasks import under_way

_LONGEST_WAIT = 120.0  # seconds that a `retry-after` is honoured for
_TIMEOUT_RETRIES = 1  # a call that timed out is rarely answered later
_BUSY = (429, 503, 529)  # the endpoint works but is overloaded: worth more retries
_BUSY_PATIENCE = 3  # times as many
_CONNECTIONS = 1000  # what `openai` has by itself
# That a connection is kept: less than an endpoint's 5 (uvicorn's own number, so that of most), or one could close as it
# is used.
IDLE_SECONDS = 3.0
_Limits = type(openai.DEFAULT_CONNECTION_LIMITS)  # of the HTTP library that it uses
_CPU_TIMEOUT = 3600.0  # seconds for a call to an endpoint on a CPU, where it waits behind others
# The last is of proxies (LiteLLM), which count the reply apart.
_WINDOW_FIELDS = ("max_model_len", "context_length", "context_window", "max_context_length", "max_input_tokens")
_PASSING = (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError)
_WAITED = (408, 504, 524)  # a proxy, or what it asks, waited for the answer's first byte for too long
_SILENT_SECONDS = 20.0  # after which a connection that breaks off may have been silent for too long
_AWAY = (500, 502, 503, 504)  # what a proxy says of an endpoint that restarts; so may the endpoint itself
_MALFORMED = (openai.OpenAIError, ValueError, TypeError, AttributeError)  # what an unexpected answer may raise
_TIMED_OUT = (TimeoutError, openai.APITimeoutError)


class OpenAIModel:
    """See `bot.contracts.Model`. Call `connect` once before `name` and `context_window` are read."""

    def __init__(
        self,
        settings: ModelSettings,
        role: Literal["main", "relevance"],
        default_base_url: str = "",
        user: str | None = None,
    ) -> None:
        """`role` names the settings in messages, `default_base_url` is used if they hold none, `user` is sent."""
        self._settings = settings
        self._prefix = f"TROOP_{role.upper()}_"
        self._base_url = settings.base_url or default_base_url
        if not self._base_url:
            raise EndpointError(f"no model endpoint: set {self._prefix}BASE_URL, e.g. http://127.0.0.1:8100/v1")
        try:
            self._key = header_secret(settings.api_key).get_secret_value() or "none"
        except ValueError as error:
            self._give_up(f"can't be asked, since the key {error}", f"set {self._prefix}API_KEY")
        self._client = self._open(self._base_url)
        self._counter = TokenCounter(self._client, settings.tokenizer)
        self._dialect = Dialect(settings.context_window, user)
        self._name = settings.name
        self._listed: tuple[str, ...] = ()  # names of models
        self._on_cpu = False
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._connecting = asyncio.Lock()
        self._connected = False
        self._answered = False  # whether any call was ever answered
        self._last_answer = 0.0  # monotonic seconds

    @property
    def name(self) -> str:
        return self._name

    @property
    def listed(self) -> tuple[str, ...]:
        """Names of the endpoint's models; empty where it lists none."""
        return self._listed

    @property
    def base_url(self) -> str:
        return self._base_url

    @property
    def context_window(self) -> int:
        return self._dialect.window

    @property
    def on_cpu(self) -> bool:
        return self._on_cpu

    async def close(self) -> None:
        """Close the connections. Safe to call twice."""
        await self._client.close()

    def _open(self, base_url: str) -> openai.AsyncOpenAI:
        local = urlsplit(base_url).hostname in ("localhost", "127.0.0.1", "::1")
        most = max(_CONNECTIONS, 2 * self._settings.concurrency)  # a call that waits for one may time out
        return openai.AsyncOpenAI(
            base_url=base_url,
            api_key=self._key,
            max_retries=0,  # retried here, where what was learned changes the call
            timeout=self._settings.timeout,
            http_client=openai.DefaultAsyncHttpxClient(
                trust_env=not local,  # no proxy to ourselves
                limits=_Limits(max_connections=most, max_keepalive_connections=most, keepalive_expiry=IDLE_SECONDS),
            ),
        )

    # -- finding out about the endpoint ---------------------------------------------------------------------------

    async def connect(self) -> None:
        """Find the model's name and window. Raises `EndpointError` if that is not possible, `EndpointDown` if not now.

        Safe to call twice; `reply` calls it too.
        """
        async with self._connecting:
            if not self._connected:
                await self._find_model()
                self._connected = True

    async def _find_model(self) -> None:
        models = await self._list_models()
        if models is None and not self._base_url.rstrip("/").endswith("/v1"):
            models = await self._list_models_below_v1()
        self._listed = tuple(str(model["id"]) for model in models or ())
        if not self._name:
            if not self._listed:
                hint = f"see that {self._prefix}BASE_URL is an API's (most end in /v1), or set {self._prefix}NAME"
                self._give_up("lists no models", f"{hint} to the model's name")
            self._name = self._listed[0]
        entry: dict[str, Any] = next((model for model in models or () if model["id"] == self._name), {})
        self._on_cpu = entry.get("device") == "cpu"
        ways = entry.get("structured_outputs")
        self._dialect.takes_grammars = isinstance(ways, list) and "lark" in ways
        self._dialect.extended = entry.get("continue_final_message") is True or entry.get("owned_by") == "vllm"
        sizes = [size for field in _WINDOW_FIELDS if isinstance(size := entry.get(field), int) and size > 0]
        if sizes and not self._dialect.window_known:
            self._dialect.set_window(sizes[0])

    async def _list_models_below_v1(self) -> list[dict[str, Any]] | None:
        """The models at the base URL with `/v1`, which is used from now on if it lists them."""
        base_url = self._base_url.rstrip("/") + "/v1"
        without, self._client = self._client, self._open(base_url)
        models = await self._list_models()
        if models is None:
            without, self._client = self._client, without
        else:
            self._base_url = base_url
            self._counter = TokenCounter(self._client, self._settings.tokenizer)
        await without.close()
        return models

    async def _list_models(self) -> list[dict[str, Any]] | None:
        """The endpoint's models; None if it does not list them."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_PASSING),
            stop=stop_after_attempt(self._settings.retries + 1),
            wait=_wait,
            reraise=True,
        )
        try:
            answer: object = await retrying(self._client.get, "/models", cast_to=object, options={"timeout": 30.0})
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            self._refuse_key(error.status_code)
        except _PASSING as error:
            self._unreachable(error)
        except (openai.OpenAIError, ValueError):
            return None
        data = answer.get("data") if isinstance(answer, dict) else answer
        entries = data if isinstance(data, list) else []
        return [entry for entry in entries if isinstance(entry, dict) and entry.get("id")]

    def _give_up(self, problem: str, hint: str) -> NoReturn:
        raise EndpointError(self._words(problem, hint))

    def _words(self, problem: str, hint: str) -> str:
        return f"the model endpoint {masked_address(self._base_url)} {problem}: {hint}"

    def _refuse_key(self, status: int) -> NoReturn:
        self._give_up(f"refuses the key (HTTP {status})", f"set {self._prefix}API_KEY")

    def _unreachable(self, error: Exception) -> NoReturn:
        why = " ".join(str(error.__cause__ or error).split())[:200]
        hint = f"start it, or set {self._prefix}BASE_URL"
        if isinstance(error, openai.APIStatusError):  # of a proxy, in HTML as a rule
            said = re.sub("<[^<>]*>", " ", Refusal.of(error).message)
            why = f"HTTP {error.status_code}: {' '.join(said.split())[:150]}"
        elif "WRONG_VERSION_NUMBER" in why:
            why, hint = "it does not speak TLS", f"begin {self._prefix}BASE_URL with http://, or let it speak TLS"
        elif "CERTIFICATE_VERIFY_FAILED" in why:
            hint = "name the authority's certificates in SSL_CERT_FILE, or correct the endpoint's certificate"
        raise EndpointDown(self._words(f"can't be reached ({why})", hint))

    def _check_usable(self, refusal: Refusal) -> None:
        """Raise `EndpointError` if no call can succeed until the operator changes something."""
        if refusal.status in (401, 403):
            self._refuse_key(refusal.status)
        if refusal.status == 404:
            listed = ", ".join(self._listed[:5]) or "none"
            self._give_up(
                f"has no chat model {self._name!r} (HTTP 404: {refusal.message[:200]})",
                f"set {self._prefix}NAME (it lists: {listed}) or correct {self._prefix}BASE_URL",
            )
        if refusal.status == 402 or "insufficient_quota" in f"{refusal.code} {refusal.text}":
            self._give_up(f"says that the account is spent (HTTP {refusal.status})", "add credit, or set another key")

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

    async def _persist(self, call: ModelCall) -> Reply:
        """The reply, after as many retries as `_Patience` allows."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((TimeoutError, *_MALFORMED)),
            stop=_Patience(self._settings.retries),
            wait=_wait,
            reraise=True,
        )
        try:
            return await retrying(self._try, call)
        except _TIMED_OUT:
            return self._timed_out()
        except openai.APIConnectionError as error:
            self._unreachable(error)
        except (openai.APIStatusError, AnsweredError) as error:
            if error.status_code in _AWAY:
                await self._check_up()
            why = f"HTTP {error.status_code}: {Refusal.of(error).message[:300]}"
        except _MALFORMED as error:
            why = f"malformed answer: {' '.join(str(error).split())[:300]}"
        return _failure(f"gave up after {retrying.statistics['attempt_number']} tries: {why}")

    async def _check_up(self) -> None:
        """Raise `EndpointDown` if the endpoint answers not even what costs nothing."""
        try:
            await self._client.get("/models", cast_to=object, options={"timeout": 30.0})
        except (openai.APIConnectionError, openai.InternalServerError) as error:
            self._unreachable(error)
        except (openai.OpenAIError, ValueError):
            return  # it answers

    async def _try(self, call: ModelCall) -> Reply:
        """One try. A call that is refused is sent again at once, as long as the refusal says what to change.

        Raises errors that are worth a retry, and `EndpointError` if a retry would not help.
        """
        limit: int | None = call.max_tokens
        while limit is not None:
            request = self._dialect.request(call, limit)
            started = time.monotonic()
            try:
                return await self._uncut(await self._send(call.key, request), call)
            except (openai.APIStatusError, AnsweredError) as error:
                refusal = Refusal.of(error)
                if refusal.status in _WAITED:
                    self._dialect.stream()
                if refusal.status not in REFUSED and not (refusal.status >= 500 and refusal.overflow):
                    self._check_usable(refusal)
                    raise
                limit = self._dialect.learn(refusal, request)
            except _TIMED_OUT:
                if not self._answered:
                    self._give_up(
                        f"has answered nothing within {self._patience:.0f} s",
                        f"look at its log; if it is that slow, raise {self._prefix}FIRST_ANSWER_TIMEOUT",
                    )
                if self._last_answer < started:  # no concurrent call was answered either: the endpoint hangs
                    return self._timed_out()
                raise
            except openai.APIConnectionError:
                if time.monotonic() - started >= _SILENT_SECONDS:
                    self._dialect.stream()
                raise
        if refusal.overflow:
            why = f"the endpoint refused the prompt as too long (HTTP {refusal.status}): {refusal.message[:500]}"
            return _failure(why, FinishReason.OVERFLOW)
        return _failure(f"the endpoint refused the call (HTTP {refusal.status}): {refusal.message[:500]}")

    async def _uncut(self, reply: Reply, call: ModelCall) -> Reply:
        """The reply, or an overflow where the endpoint answered to a part of the prompt."""
        most = sum(estimate(message.content) for message in call.messages)
        seen = reply.usage.prompt_tokens
        if reply.cut_off and seen and not reply.text and not reply.usage.completion_tokens:
            why = self._dialect.learn_full(seen)
            return Reply(text=why, finish_reason=FinishReason.OVERFLOW, usage=reply.usage)
        if not seen or seen >= most:
            return reply
        counts = [await self._counter.count(self._name, message.content) for message in call.messages]
        why = self._dialect.learn_cut(reply.usage, sum(counts), self._counter.exact)
        if not why:
            return reply
        hint = f"raise its context window, or set {self._prefix}CONTEXT_WINDOW"
        return Reply(text=f"{why}: {hint}", finish_reason=FinishReason.OVERFLOW, usage=reply.usage)

    def _timed_out(self) -> Reply:
        return _failure(f"no answer within {self._timeout:.0f} s")

    @property
    def _timeout(self) -> float:
        """Seconds for a call: the setting; if it is not set, more for an endpoint on a CPU."""
        patient = self._on_cpu and "timeout" not in self._settings.model_fields_set
        return _CPU_TIMEOUT if patient else self._settings.timeout

    @property
    def _patience(self) -> float:
        """Seconds for the first answer of all."""
        patient = self._on_cpu and "first_answer_timeout" not in self._settings.model_fields_set
        return min(self._timeout, _CPU_TIMEOUT if patient else self._settings.first_answer_timeout)

    async def _send(self, key: str, request: Request) -> Reply:
        started = time.monotonic()
        call = self._client.post(
            request.path,
            body={"model": self._name, **request.body},
            cast_to=object,
            options={
                "headers": {"X-Troop-Call": quote(key)},  # for the endpoint's log
                "max_retries": 0,
                "timeout": self._timeout,
            },
        )
        answer = await self._in_time(call)
        answer = completion_of(answer) if isinstance(answer, str) else answer
        check_answer(answer)
        reply = read_completion(answer, time.monotonic() - started)
        return reply.model_copy(update={"text": request.begins + reply.text}) if request.begins else reply

    async def _in_time(self, call: Awaitable[object]) -> object:
        """The call's answer. Unlike the client's own time-out, this one is not extended by every byte that arrives."""
        async with under_way(call) as (task,):
            if not self._answered:
                done, _ = await asyncio.wait((task,), timeout=self._patience)
                if not done and not self._answered:
                    raise TimeoutError
                async with asyncio.timeout(max(0.0, self._timeout - self._patience)):
                    answer = await task
            else:
                async with asyncio.timeout(self._timeout):
                    answer = await task
            self._answered = True
            self._last_answer = time.monotonic()
            return answer


class _Patience:
    """A stop condition for tenacity: few retries after time-outs, more if the endpoint is busy."""

    def __init__(self, retries: int) -> None:
        self._retries = retries
        self._busy = False
        self._timeouts = 0

    def __call__(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, _TIMED_OUT):
            self._timeouts += 1
            if self._timeouts > _TIMEOUT_RETRIES:
                return True
        elif isinstance(error, openai.APIConnectionError):
            return state.attempt_number > self._retries
        self._busy |= isinstance(error, openai.APIStatusError | AnsweredError) and error.status_code in _BUSY
        return state.attempt_number > self._retries * (_BUSY_PATIENCE if self._busy else 1)


def _wait(state: RetryCallState) -> float:
    """Seconds until the next try: what the endpoint asked for, else exponential with jitter."""
    error = state.outcome.exception() if state.outcome else None
    asked = asked_to_wait(error) if isinstance(error, openai.APIStatusError | AnsweredError) else None
    if asked is not None:
        return min(_LONGEST_WAIT, asked)
    return float(min(30.0, 0.5 * 2 ** (state.attempt_number - 1)) * random.uniform(0.75, 1.25))


def _failure(why: str, end: FinishReason = FinishReason.ERROR) -> Reply:
    return Reply(text=why, finish_reason=end, usage=Usage(calls=1))
