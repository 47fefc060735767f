"""The pages as one application, beside the webhook's: who signs in sees runs and conversations."""

from collections.abc import Callable

from fastapi import APIRouter, FastAPI, Response
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bot.settings import Settings
from bot.web.actions import Enqueue, RunWriter, action_routes
from bot.web.engine_page import engine_routes
from bot.web.live import live_routes
from bot.web.pages import list_routes
from bot.web.report_page import source
from bot.web.repository_page import repository_routes
from bot.web.run_page import run_routes
from bot.web.sign_in import sign_in_routes
from bot.web.site import HEADERS, Site

_FILES = {"style.css": "text/css; charset=utf-8", "live.js": "text/javascript; charset=utf-8"}


def create_pages(settings: Settings, store: RunWriter, enqueue: Enqueue) -> FastAPI:
    """The application. It answers nothing but the sign-in page without a session.

    `enqueue`: hands the job of an action to the workers; where it fails, the sweeper finds the row.
    """
    app = FastAPI(title="Troop", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.site = site = Site(settings, store)

    site.add_errors(app)
    app.include_router(sign_in_routes(site))
    for routes in (list_routes, run_routes, live_routes, repository_routes):
        app.include_router(routes(site))
    app.include_router(engine_routes(site, store))
    app.include_router(action_routes(site, store, enqueue))
    app.include_router(_files())
    app.add_middleware(_Headers, secure=settings.pages.address.startswith("https://"))
    return app


class _Headers:
    """Puts the pages' headers on every answer, errors included."""

    def __init__(self, app: ASGIApp, secure: bool) -> None:
        self._app = app
        self._headers = HEADERS | ({"Strict-Transport-Security": "max-age=31536000"} if secure else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


def _files() -> APIRouter:
    """What the pages load: a style sheet and a script of our own, and nothing from elsewhere."""
    router = APIRouter()

    def file(name: str) -> Callable[[], Response]:
        text, kind = source(name), _FILES[name]
        return lambda: Response(text, media_type=kind, headers={"Cache-Control": "max-age=3600"})

    for name in _FILES:
        router.add_api_route(f"/{name}", file(name), methods=["GET"], response_model=None)
    return router
