"""What all pages share: who asks, what they may see, and how a page is shown.

Nobody sees anything without a session. Whoever signed in with GitHub sees the runs of the repositories that GitHub lets
them read; what they may not see looks like what is not there. The machine's owner sees all.
"""

import asyncio
import functools
from collections.abc import Callable, Collection, Mapping
from typing import ParamSpec, TypeVar
from urllib.parse import parse_qs, quote, urlsplit

import anyio
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from bot.errors import ForgeError, StoreUnavailable
from bot.forge.people import Access, Known, SignInAgain
from bot.records import Record
from bot.settings import Settings
from bot.store import RunInfo
from bot.web.body import BodyReader
from bot.web.reading import RunReader
from bot.web.report_page import templates
from bot.web.sessions import Sessions, Visitor
from bot.webhook.delivery import Refusal

THREADS = 2  # that look into the database and make pages: most of the process is for deliveries
_FORM_LIMIT = 65_536  # bytes

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

P = ParamSpec("P")
T = TypeVar("T")


class NotSignedIn(Exception):
    """The session is missing or has ended."""


class Form(Record):
    """What a form posted: the first value of each field."""

    fields: dict[str, str]

    def __getitem__(self, name: str) -> str:
        return self.fields.get(name, "")


class Site:
    """Shared by the routes of one application."""

    def __init__(self, settings: Settings, store: RunReader) -> None:
        self.settings = settings
        self.store = store
        self.sessions = Sessions(settings)
        self.secrets = settings.secrets()
        self.known = Known(settings)
        self.ending: Callable[[], bool] = lambda: False  # whether the server waits for its connections to end
        self._forms = BodyReader(limit=_FORM_LIMIT)
        self._limiter: anyio.CapacityLimiter | None = None
        self._computing = asyncio.Lock()

    # -- who asks, and what they may see

    def visitor(self, request: Request) -> Visitor:
        """Raises `NotSignedIn`."""
        found = self.sessions.visitor(request)
        if found is None:
            raise NotSignedIn
        return found

    async def readable(self, visitor: Visitor) -> Collection[str] | None:
        """The repositories whose runs are listed; None: all. Raises `ForgeError`, `SignInAgain`."""
        return None if visitor.admin else await self.known.repositories(visitor.session, visitor.token)

    async def access(self, visitor: Visitor, repository: str, *, fresh: bool = False) -> Access:
        """Raises `ForgeError`, `SignInAgain`."""
        if visitor.admin:
            return Access(read=True, write=True)
        return await self.known.access(visitor.session, visitor.token, repository, fresh=fresh)

    async def run(self, visitor: Visitor, run_id: int) -> RunInfo:
        """Raises `HTTPException` (404), also for what the visitor may not read."""
        run = await self.thread(self.store.run, run_id) if 0 < run_id < 2**62 else None
        if run is None or not (await self.access(visitor, run.repository)).read:
            raise HTTPException(404, f"there is no run {run_id}, or you may not see it")
        return run

    # -- what comes in

    async def form(self, request: Request, visitor: Visitor | None = None) -> Form:
        """The fields of a form of our own pages; with a visitor, of their session. Raises `HTTPException`."""
        if not _is_same_origin(request):
            raise HTTPException(403, "the form comes from another site")
        body = await self._forms.read(request)
        if isinstance(body, Refusal):
            raise HTTPException(body.status, body.reason)
        try:
            found = parse_qs(body.decode(errors="replace"), keep_blank_values=True, max_num_fields=50)
        except ValueError as error:
            raise HTTPException(400, "the form has more fields than any of these pages") from error
        form = Form(fields={name: values[0] for name, values in found.items()})
        if visitor is not None and not self.sessions.is_form_token(visitor, form["token"]):
            raise HTTPException(403, "the form is of an earlier session; go back, reload the page, and try again")
        return form

    # -- what goes out

    async def thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a call that blocks. Pages have few threads, so that they never take those of deliveries."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(THREADS)
        return await anyio.to_thread.run_sync(functools.partial(call, *args, **kwargs), limiter=self._limiter)

    async def compute(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `thread`, for what takes the interpreter for some 20 ms: one after the other.

        Two at once would be done no sooner, and deliveries, each of which wants the interpreter a dozen times, would
        wait behind both.
        """
        async with self._computing:
            return await self.thread(call, *args, **kwargs)

    async def show(
        self,
        request: Request,
        template: str,
        values: Mapping[str, object],
        *,
        visitor: Visitor | None = None,
        status: int = 200,
    ) -> Response:
        """A page."""
        shared = {
            "visitor": visitor,
            "form_token": self.sessions.form_token(visitor) if visitor else "",
            "here": request.url.path,
        }
        text = await self.thread(templates.get_template(template).render, **{**shared, **values})
        return Response(text, status, media_type="text/html; charset=utf-8")

    def add_errors(self, app: FastAPI) -> None:
        """What is raised becomes a page that says what to do."""

        async def sign_in(request: Request, error: Exception) -> Response:
            if request.method != "GET" or not _wants_page(request):
                return JSONResponse({"error": "sign in first"}, 401)
            path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"/sign-in?next={quote(path)}", 303)

        async def problem(request: Request, error: Exception) -> Response:
            status, words = _told(error)
            if not _wants_page(request):
                return JSONResponse({"error": words}, status)
            visitor = self.sessions.visitor(request)
            return await self.show(request, "problem.html", {"words": words}, visitor=visitor, status=status)

        app.add_exception_handler(NotSignedIn, sign_in)
        app.add_exception_handler(SignInAgain, sign_in)
        for kind in (StarletteHTTPException, RequestValidationError, ForgeError, StoreUnavailable):
            app.add_exception_handler(kind, problem)


def _told(error: Exception) -> tuple[int, str]:
    """The status of an error, and what to say of it."""
    if isinstance(error, StarletteHTTPException):
        unknown = error.status_code == 404 and not isinstance(error, HTTPException)  # no route has it
        return error.status_code, "there is no such page" if unknown else str(error.detail)
    if isinstance(error, RequestValidationError):
        of_path = any(one["loc"][0] == "path" for one in error.errors())
        named = ", ".join(sorted({str(one["loc"][-1]) for one in error.errors()}))
        return (404, "there is no such page") if of_path else (422, f"the address has no valid {named}")
    return 503, "the database is out of reach; try again" if isinstance(error, StoreUnavailable) else str(error)


def local_path(text: str) -> str:
    """The path if it leads to these pages, else the first page: no way out to another site."""
    parts = urlsplit(text) if text.isprintable() and text.isascii() else None
    if parts is None or not text.startswith("/") or text.startswith("//") or "\\" in text or parts.netloc:
        return "/"
    return text


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "text/html") or request.headers.get("accept") == "*/*"


def _is_same_origin(request: Request) -> bool:
    """Whether the browser says that one of our own pages sent it."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin", "")
    return origin != "null" and (not origin or urlsplit(origin).netloc == request.headers.get("host"))
