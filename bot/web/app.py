"""The HTTP service: verify, decide, store, enqueue, answer 202.

Deliveries that need nothing done (ignored, or only answered) are logged and counted but not stored: the database has
only what must not be done twice.
"""

import asyncio
import hmac
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, Protocol, TypeVar

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from structlog.contextvars import bound_contextvars

from bot.contracts import Dispatcher
from bot.errors import SettingsError, StoreUnavailable
from bot.lifecycle import RunState
from bot.preflight import Readiness
from bot.records import Record
from bot.settings import Settings
from bot.store import Accepted, Arrived, parse
from bot.store.jobs import RUN
from bot.web.body import BodyReader
from bot.web.intake import Intake
from bot.web.metrics import CONTENT_TYPE, Metrics
from bot.webhook.decide import decide
from bot.webhook.decisions import Answer, Decision, Ignore
from bot.webhook.delivery import Delivery, Refusal, check_form, receive
from bot.webhook.rules import Rules

ENQUEUE_TIMEOUT = 3.0  # seconds, a little more than the dispatcher's own; then the sweeper enqueues the job
ACCEPT_SECONDS = 4.0  # that a delivery waits for other writers, threads included; GitHub gives up after 10
SMALL = 32 * 1024  # bytes of a body that is read at once, in some milliseconds; a long comment is read in a thread
METRICS_SECONDS = 1.0  # that `/metrics` and `/ready` show the same of the database
READY_SECONDS = 2.0  # that `/ready` waits for other writers

log = logging.getLogger(__name__)

T = TypeVar("T")

_LOOKS = ["GET", "HEAD"]  # as what watches servers asks
_NOT_TOLD = "out of reach; the log has the reason"  # to strangers: reasons name hosts


class WebStore(Protocol):
    """What the service needs of the store. Methods block; they are called in threads."""

    def accept_all(self, arrived: Sequence[Arrived]) -> list[Accepted | Exception]: ...

    def check_writable(self, patience: float) -> None: ...

    def counts(self) -> Mapping[RunState, int]: ...

    def spent_now(self) -> Mapping[str, float]: ...

    def paused(self) -> object | None: ...


class Taken(Record):
    """A delivery and its decision; stored, unless nothing is to be done."""

    delivery: Delivery
    decision: Decision
    accepted: Accepted | None

    @property
    def job_id(self) -> str | None:
        """The job to enqueue."""
        return self.accepted.job_id if self.accepted else None

    @property
    def event(self) -> str:
        """E.g. `issues.labeled`."""
        return f"{self.delivery.event}.{self.delivery.action}" if self.delivery.action else self.delivery.event


def create_app(
    settings: Settings,
    store: WebStore,
    dispatcher: Dispatcher,
    *,
    lifespan: "Lifespan | None" = None,
    readiness: Readiness | None = None,
) -> FastAPI:
    """The application. Raises `SettingsError` without a webhook secret, since nothing could be verified."""
    metrics = Metrics()
    handover = Handover(dispatcher, metrics)
    webhook = Webhook(settings, store, handover, metrics)
    app = FastAPI(
        title="Troop", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False, lifespan=lifespan
    )
    app.state.enqueue = handover
    for path in ("/webhook", "/webhook/"):  # a redirect would be no delivery, and its address that of the Host header
        app.add_api_route(path, webhook.post, methods=["POST"])
    app.include_router(_state_of(store, handover, metrics, readiness, settings.admin_token.get_secret_value()))
    return app


class Webhook:
    """The endpoint that GitHub delivers to."""

    def __init__(self, settings: Settings, store: WebStore, handover: "Handover", metrics: Metrics) -> None:
        self._secrets = settings.webhook_secrets()
        if not self._secrets:
            raise SettingsError(
                "TROOP_WEBHOOK_SECRET is empty; set it to the secret of the webhook in the App's settings"
            )
        self._rules = Rules.of(settings)
        self._intake = Intake(store)
        self._handover = handover
        self._metrics = metrics
        self._bodies = BodyReader()

    async def post(self, request: Request) -> Response:
        """Verify, decide, store, enqueue, answer."""
        with bound_contextvars(delivery=_line(request.headers.get("x-github-delivery", ""))[:100]):
            return await self._post(request)

    async def _post(self, request: Request) -> Response:
        started = time.perf_counter()
        refusal = check_form(request.headers.get("x-hub-signature-256"))
        if refusal is not None:  # no body is read for a stranger
            return self._refuse(refusal)
        async with self._bodies.held(request) as body:
            return self._refuse(body) if isinstance(body, Refusal) else await self._decide(body, request, started)

    async def _decide(self, body: bytes, request: Request, started: float) -> Response:
        until = time.monotonic() + ACCEPT_SECONDS
        if len(body) <= SMALL:
            delivery, decision = self._read(body, request.headers)
        else:
            delivery, decision = await run_in_threadpool(self._read, body, request.headers)
        if isinstance(delivery, Refusal):
            return self._refuse(delivery)
        taken = Taken(delivery=delivery, decision=decision, accepted=None)
        if not isinstance(decision, Answer | Ignore):
            action = delivery.action or ""
            arrived = Arrived(guid=delivery.guid, event=delivery.event, action=action, decision=decision, until=until)
            try:
                taken = taken.model_copy(update={"accepted": await self._intake.accept(arrived)})
            except StoreUnavailable as error:
                log.error("not stored guid=%s error=%s", _line(delivery.guid), error)
                return JSONResponse({"error": "the database is out of reach; deliver it again"}, 503)
        if taken.job_id is not None:
            await self._handover(taken.job_id)
        return self._accept(taken, time.perf_counter() - started)

    def _read(self, body: bytes, headers: Mapping[str, str]) -> tuple[Delivery, Decision] | tuple[Refusal, None]:
        """Verify, then parse and decide."""
        delivery = receive(body, headers, self._secrets)
        if isinstance(delivery, Refusal):
            return delivery, None
        return delivery, decide(delivery, self._rules)

    def _accept(self, taken: Taken, seconds: float) -> Response:
        answer = _answer(taken)
        self._metrics.deliveries.labels(decision=answer["decision"]).inc()
        self._metrics.duplicates.inc(answer["duplicate"])
        self._metrics.acknowledgement.observe(seconds)
        log.info(
            "delivery guid=%s event=%s decision=%s job=%s duplicate=%s ms=%.1f reason=%s",
            taken.delivery.guid,
            taken.event,
            answer["decision"],
            taken.job_id or "-",
            answer["duplicate"],
            seconds * 1000,
            _line(answer["reason"]),
        )
        return JSONResponse(answer, 202)

    def _refuse(self, refusal: Refusal) -> Response:
        self._metrics.refused.labels(status=str(refusal.status)).inc()
        log.warning("refused status=%d reason=%s", refusal.status, _line(refusal.reason))
        # The rest of an unread body would look like the next request on this connection.
        return JSONResponse({"error": refusal.reason}, refusal.status, {"Connection": "close"})


def _shows_token(request: Request, token: str) -> bool:
    shown = request.headers.get("authorization", "").encode("utf-8", "replace")
    return bool(token) and hmac.compare_digest(shown, f"Bearer {token}".encode())


def _state_of(
    store: WebStore, handover: "Handover", metrics: Metrics, readiness: Readiness | None, token: str
) -> APIRouter:
    """The routes for machines: health, readiness and metrics. `token`: the admin's."""
    router = APIRouter()
    rendered = _Shared(lambda: _rendered(store, metrics))
    trouble_of_database = _Shared(lambda: _trouble_of(store))

    @router.api_route("/livez", methods=_LOOKS)
    @router.api_route("/health", methods=_LOOKS)
    async def health() -> dict[str, str]:
        """The process is running."""
        return {"status": "ok"}

    @router.api_route("/readyz", methods=_LOOKS)
    @router.api_route("/ready", methods=_LOOKS)
    async def ready(request: Request) -> Response:
        """Whether a label would become a pull request. Deliveries are taken whatever it says, while the database is
        there. What is wrong is told to who shows the admin token; others get the names: a proxy on this machine
        looks as if it asked for itself."""
        words = _shows_token(request, token)
        if unavailable := await trouble_of_database():
            return JSONResponse({"database": unavailable if words else _NOT_TOLD}, 503)
        trouble = handover.trouble if words or not handover.trouble else _NOT_TOLD
        state = {"database": "ok", "queue": trouble or "ok"}
        missing = [one for one in (await readiness.findings() if readiness else ()) if one.level == "missing"]
        state |= {one.name: one.words.removeprefix(f"{one.name}: ") if words else "missing" for one in missing}
        return JSONResponse(state, 503 if missing else 200)

    @router.api_route("/metrics", methods=_LOOKS)
    async def prometheus() -> Response:
        return Response(await rendered(), headers={"Content-Type": CONTENT_TYPE})

    return router


class _Shared(Generic[T]):
    """What asks the database, once a while; who wants it meanwhile waits without a thread, which deliveries need."""

    def __init__(self, ask: Callable[[], T]) -> None:
        self._ask = ask
        self._asking = asyncio.Lock()
        self._found: T | None = None
        self._until = float("-inf")  # monotonic seconds

    async def __call__(self) -> T:
        async with self._asking:
            if self._found is None or time.monotonic() >= self._until:
                self._found = await run_in_threadpool(self._ask)
                self._until = time.monotonic() + METRICS_SECONDS
            return self._found


def _trouble_of(store: WebStore) -> str:
    """Why no delivery could be stored now; "" where one could. Blocks on the database."""
    try:
        store.counts()
        store.check_writable(READY_SECONDS)
    except StoreUnavailable as error:
        log.warning("not ready: %s", error)
        return str(error)
    return ""


def _rendered(store: WebStore, metrics: Metrics) -> bytes:
    """The metrics as text. Blocks on the database; without it, the other numbers matter most."""
    try:
        return metrics.render(store.counts(), store.spent_now(), paused=store.paused() is not None)
    except StoreUnavailable:
        return metrics.render({}, {}, paused=False)


class Lifespan(Protocol):
    """What FastAPI runs around the service."""

    def __call__(self, app: FastAPI) -> AbstractAsyncContextManager[None]: ...


class Handover:
    """Enqueues jobs. After a failure the sweeper enqueues the job, since its row is committed."""

    def __init__(self, dispatcher: Dispatcher, metrics: Metrics) -> None:
        self.trouble = ""  # what went wrong last time
        self._dispatcher = dispatcher
        self._metrics = metrics

    async def __call__(self, job_id: str) -> None:
        """Never raises, and takes at most `ENQUEUE_TIMEOUT`."""
        try:
            async with asyncio.timeout(ENQUEUE_TIMEOUT):
                await self._dispatcher.enqueue(job_id)
        except Exception as error:
            self.trouble = f"{type(error).__name__}: {error}"
            self._metrics.not_queued.inc()
            expected = isinstance(error, OSError)  # ConnectionError and TimeoutError are
            log.warning("not queued job=%s, the sweeper will: %s", job_id, self.trouble, exc_info=not expected)
        else:
            self.trouble = ""


def _answer(taken: Taken) -> dict[str, Any]:
    """The answer, which GitHub shows to the App's owner in its list of deliveries."""
    accepted = taken.accepted
    match taken.decision:
        case Ignore():
            reason = taken.decision.reason
        case Answer():
            reason = taken.decision.message
        case _:
            reason = accepted.note if accepted else ""
    job = parse(taken.job_id) if taken.job_id else None
    return {
        "decision": type(taken.decision).__name__,
        "reason": reason,
        "run": job.id if job and job.kind == RUN else None,
        "job": taken.job_id,
        "duplicate": bool(accepted and accepted.duplicate),
    }


def _line(text: str) -> str:
    """On one line and in ASCII, so that a payload can't forge log lines."""
    return " ".join(text.split()).encode("ascii", "backslashreplace").decode()[:500]
