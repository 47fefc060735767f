"""`/setup`: a server without an App makes one by GitHub's manifest flow, with one click, and then becomes itself.

Whoever has the token that is printed at start may use the page, nobody else; GitHub's way back is bound to the page by
`state`, which works once. What GitHub tells goes to files of mode 0600 in `TROOP_SECRETS_DIR`, and is never shown.
"""

import asyncio
import hmac
import json
import logging
import secrets
import socket
import time
from collections.abc import Callable
from urllib.parse import parse_qs, quote, urlsplit

import jinja2
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from bot.errors import ForgeError, SettingsError
from bot.forge.manifest import NewApp, convert, creation_url, manifest, ping_again
from bot.settings import Settings
from bot.settings.files import check_writable, write_secrets
from bot.web.body import BodyReader
from bot.web.connections import BoundedServer
from bot.web.report_page import templates
from bot.web.site import HEADERS
from bot.webhook.delivery import Refusal, receive

STATE_SECONDS = 3600.0  # GitHub's code works as long
_FORM_LIMIT = 16_384  # bytes

log = logging.getLogger(__name__)


class Setup:
    """The pages of a server that has no App yet. `done` is called once it has one."""

    def __init__(
        self,
        settings: Settings,
        done: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        ping: Callable[[Settings, NewApp], str] = ping_again,
    ) -> None:
        """Raises `SettingsError` where the secrets could not be written."""
        check_writable(settings.secrets_dir, "TROOP_SECRETS_DIR")
        self.token = secrets.token_hex(32)
        self.app: NewApp | None = None
        self._settings = settings
        self._done = done
        self._clock = clock
        self._ping = ping
        self._states: dict[str, float] = {}  # not used yet; when each was made
        self._bodies = BodyReader()
        self._forms = BodyReader(limit=_FORM_LIMIT)
        self._making = asyncio.Lock()  # two ways back at once must not make two Apps

    @property
    def url(self) -> str:
        """Where to begin: on this machine, since the public address may not lead here yet."""
        host = self._settings.host
        host = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 - what it listens on
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{self._settings.port}/setup?token={self.token}"

    def application(self) -> FastAPI:
        router = APIRouter()
        for path, method, handler in (
            ("/setup", "GET", self.page),
            ("/setup/create", "POST", self.create),
            ("/setup/callback", "GET", self.callback),
            ("/webhook", "POST", self.webhook),
            ("/webhook/", "POST", self.webhook),
        ):
            router.add_api_route(path, handler, methods=[method], response_model=None)

        @router.get("/style.css")
        def style() -> Response:
            source, _, _ = jinja2.PackageLoader("bot.web", "templates").get_source(templates, "style.css")
            return Response(source, media_type="text/css; charset=utf-8", headers=HEADERS)

        @router.api_route("/health", methods=["GET", "HEAD"])
        @router.api_route("/livez", methods=["GET", "HEAD"])
        async def live() -> dict[str, str]:
            return {"status": "ok"}

        @router.api_route("/", methods=["GET", "HEAD"])
        @router.api_route("/ready", methods=["GET", "HEAD"])
        @router.api_route("/readyz", methods=["GET", "HEAD"])
        async def ready() -> Response:
            return JSONResponse({"setup": "there is no App yet: open the address of /setup that the log has"}, 503)

        app = FastAPI(title="Troop", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
        app.include_router(router)
        return app

    async def page(self, request: Request) -> Response:
        """The form."""
        if not self._may(request):
            return self._refused()
        back = f"{self._base(request)}/setup/callback"
        local = urlsplit(self._settings.public_url).hostname in ("localhost", "127.0.0.1", "::1")
        return self._show(
            "setup.html",
            action=f"/setup/create?token={quote(self.token)}",
            manifest=json.dumps(manifest(self._settings, back)),
            github=self._settings.github_web_url,
            public_url=self._settings.public_url,
            unreachable=local and urlsplit(self._settings.github_web_url).hostname == "github.com",
        )

    async def create(self, request: Request) -> Response:
        """On to GitHub, which the browser posts the same form to."""
        if not self._may(request):
            return self._refused()
        form = await self._forms.read(request)
        if isinstance(form, Refusal):
            return self._problem(form.reason, form.status)
        fields = parse_qs(form.decode(errors="replace"))
        state = secrets.token_urlsafe(32)
        try:
            where = creation_url(self._settings, fields.get("organization", [""])[0].strip(), state)
        except ForgeError as error:
            return self._problem(str(error), 400)
        self._states[state] = self._clock()
        return RedirectResponse(where, 307, headers=self._headers())

    async def callback(self, request: Request, code: str = "", state: str = "") -> Response:
        """GitHub's way back: the code becomes the App's secrets, and the webhook is tried."""
        made = self._states.pop(state, None)
        if made is None or self._clock() - made > STATE_SECONDS:
            return self._problem("this is not the way back from a form of this page: begin again", 403)
        async with self._making:
            if self.app is not None:
                return self._problem(f"the App {self.app.slug} is made already", 409)
            try:
                app = await self._make(code)
            except (ForgeError, SettingsError) as error:
                return self._problem(str(error), 502)
            self.app = app
        try:
            trouble = await asyncio.to_thread(self._ping, self._settings, app)
        finally:
            self._done()
        log.info("the App %s (%d) is set up; its webhook %s", app.slug, app.id, trouble or "arrives")
        return self._show(
            "setup_done.html",
            app=app,
            trouble=trouble,
            install=f"{app.url}/installations/new",
            label=self._settings.label,
            folder=str(self._settings.secrets_dir),
        )

    async def _make(self, code: str) -> NewApp:
        """The App, its secrets written. Raises `ForgeError` and `SettingsError`."""
        app = await asyncio.to_thread(convert, self._settings, code)
        values = {
            "troop_private_key": app.private_key.get_secret_value(),
            "troop_webhook_secret": app.webhook_secret.get_secret_value(),
            "troop_client_id": app.client_id,
            "troop_client_secret": app.client_secret.get_secret_value(),
            "troop_app_id": str(app.id),  # last: with it a server has an App
        }
        await asyncio.to_thread(write_secrets, self._settings.secrets_dir, values)
        return app

    async def webhook(self, request: Request) -> Response:
        """Answers the ping that tries the webhook; all else has to come again."""
        if self.app is None or "x-hub-signature-256" not in request.headers:
            return JSONResponse({"error": "Troop is not set up yet; deliver it again later"}, 503)
        body = await self._bodies.read(request)
        if not isinstance(body, Refusal):
            secret = self.app.webhook_secret.get_secret_value().encode()
            received = receive(body, request.headers, (secret,))
            body = received if isinstance(received, Refusal) else body
        if isinstance(body, Refusal):
            return JSONResponse({"error": body.reason}, body.status, {"Connection": "close"})
        if request.headers.get("x-github-event") != "ping":
            return JSONResponse({"error": "Troop is starting; deliver it again"}, 503)
        return JSONResponse({"decision": "Answer", "reason": "pong"}, 202)

    def _may(self, request: Request) -> bool:
        return hmac.compare_digest(request.query_params.get("token", "").encode(), self.token.encode())

    def _base(self, request: Request) -> str:
        """The address at which the browser is: the public one, or this machine's."""
        public = self._settings.public_url
        same = request.headers.get("host", "") == urlsplit(public).netloc
        return public if same else str(request.base_url).rstrip("/")

    def _headers(self) -> dict[str, str]:
        policy = HEADERS["Content-Security-Policy"].replace(
            "form-action 'self'", f"form-action 'self' {self._settings.github_web_url}"
        )
        return HEADERS | {"Content-Security-Policy": policy}

    def _show(self, template: str, status: int = 200, **values: object) -> Response:
        text = templates.get_template(template).render(**values)
        return Response(text, status, media_type="text/html; charset=utf-8", headers=self._headers())

    def _problem(self, words: str, status: int) -> Response:
        return self._show("setup_problem.html", status, words=words)

    def _refused(self) -> Response:
        return self._problem("the token is missing or wrong: open the address that the log has", 403)


async def run_setup(settings: Settings, listening: socket.socket) -> None:
    """Serve `/setup` on the socket until there is an App. Ends with `SystemExit` where a signal comes first."""

    def done() -> None:
        server.should_exit = True

    setup = Setup(settings, done)
    app = setup.application()
    server = BoundedServer(app)
    log.warning("there is no App yet: open %s (or the same at %s)", setup.url, settings.public_url)
    # uvicorn closes what it is given; whoever connects meanwhile is served by what comes next.
    await server.serve(sockets=[listening.dup()])
    if setup.app is None:
        raise SystemExit(1)
