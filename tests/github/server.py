"""The test GitHub: one real HTTP server over `World`, in a thread of this process."""

import base64
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from tests.github.apps import Apps
from tests.github.check_runs import CheckRunRoutes
from tests.github.checks import CheckRoutes, Checks
from tests.github.control import Control
from tests.github.faults import FaultsAndLog, LoggedRequest
from tests.github.git_data import GitData
from tests.github.large_files import LargeFiles
from tests.github.oauth import OAuth
from tests.github.pages import Pages
from tests.github.payloads import Payloads
from tests.github.repository import smart_http
from tests.github.rest import Rest
from tests.github.reviews import ReviewRoutes, Reviews
from tests.github.webhooks import Webhooks
from tests.github.world import ApiError, App, Moved, World
from tests.patience import PATIENCE


def make_key() -> tuple[str, str]:
    """A private and a public key, PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


def public_key_of(private_key: str) -> str:
    key = serialization.load_pem_private_key(private_key.encode(), None)
    raw = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return raw.decode()


class GitHubServer(Control):
    """A running test GitHub. `api_url` and `url` are what `TROOP_GITHUB_URL` and `TROOP_GITHUB_WEB_URL` want, `app_id`
    and `private_key` what the App wants. Close it, or use `running`."""

    def __init__(
        self,
        data: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        private_key: str = "",
        app_id: int = 1,
        slug: str = "troop",
        public_url: str = "",
    ) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()  # before that another process may be given the same port
        self.url = public_url or f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{listener.getsockname()[1]}"
        self.api_url = f"{self.url}/api/v3"
        self.app_id = app_id
        if private_key:
            self.private_key, public_key = private_key, public_key_of(private_key)
        else:
            self.private_key, public_key = make_key()
        data.mkdir(parents=True, exist_ok=True)
        world = World(data.resolve(), App(app_id, slug, public_key))
        payloads = Payloads(world, self.url)
        webhooks = Webhooks(world, payloads)
        reviews = Reviews(world, payloads)
        checks = Checks(world, payloads, webhooks)
        traffic = FaultsAndLog(_application(world, payloads, webhooks, reviews, checks, self))
        super().__init__(world, payloads, webhooks, traffic, reviews, checks)
        config = uvicorn.Config(
            traffic,
            log_level="warning",
            lifespan="off",
            timeout_graceful_shutdown=1,
            timeout_keep_alive=600,  # clients that pause for uvicorn's 5 s would meet its end of a connection
            ws="none",
            date_header=False,  # a fault may say what time it is, so the middleware dates each answer
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="github", daemon=True
        )
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)
        self._listener = listener

    @property
    def requests(self) -> list[LoggedRequest]:
        """All that was asked, with bodies, in order."""
        return self.traffic.requests

    def reset(self, data: Path) -> None:
        """Begin anew on the same port: nothing of what was is left, also no hook and no fault."""
        self.set_hook("")
        self.settle()
        data.mkdir(parents=True, exist_ok=True)
        self.world.clear(data.resolve())
        self.reviews.clear()
        self.checks.clear()
        self.webhooks.deliveries.clear()
        self.clear_faults()
        self.requests.clear()
        self.traffic.undescribed.clear()

    def close(self) -> None:
        self.webhooks.close()
        self.traffic.stopping.set()
        self._server.should_exit = True
        self._thread.join(PATIENCE)
        self._listener.close()

    @classmethod
    @contextlib.contextmanager
    def running(cls, data: Path, **options: Any) -> Iterator["GitHubServer"]:
        server = cls(data, **options)
        try:
            yield server
        finally:
            server.close()


def _application(
    world: World, payloads: Payloads, webhooks: Webhooks, reviews: Reviews, checks: Checks, control: Control
) -> FastAPI:
    app = FastAPI(openapi_url=None)
    rest = Rest(world, payloads, webhooks)
    ReviewRoutes(rest, reviews)
    GitData(rest)
    routes = CheckRoutes(rest, checks)
    CheckRunRoutes(rest)
    app.add_api_route("/storage/{name}", routes.stored, response_model=None)
    app.include_router(rest.router)

    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> Response:
        if not isinstance(error, Moved):
            return JSONResponse(error.body, error.status)
        to = str(request.url).replace(error.old, error.new, 1)
        status = 301 if request.method in ("GET", "HEAD") else 307
        return JSONResponse(error.body | {"url": to}, status, {"location": to})

    @app.post("/control/{method}")
    async def control_call(request: Request, method: str) -> Response:
        if "origin" in request.headers:  # a page of elsewhere in somebody's browser
            raise ApiError(403, "Not from a browser")
        arguments = await request.json() if await request.body() else {}
        try:
            return JSONResponse(control.call(method, arguments))
        except (LookupError, TypeError) as error:
            raise ApiError(400, str(error)) from error

    app.include_router(LargeFiles(world, payloads.web).router)

    @app.api_route("/{owner}/{name}.git/{rest:path}", methods=["GET", "POST"])
    async def git(request: Request, owner: str, name: str, rest: str) -> Response:
        """Git over HTTP: anybody reads a public repository; pushing wants `contents: write`."""
        full_name = f"{owner}/{name}"
        pushing = rest == "git-receive-pack" or request.query_params.get("service") == "git-receive-pack"
        challenge = {"www-authenticate": 'Basic realm="GitHub"'}
        user = ""
        try:
            repository = world.repository(full_name)
            kind, _, value = request.headers.get("authorization", "").partition(" ")
            if kind.lower() == "basic":
                token = world.authenticate(base64.b64decode(value).decode().partition(":")[2])
                user = token.user
                level = "write" if pushing else "read"
                role = world.permission(repository, user)
                allowed = token.allows(repository.id, "contents", level)
                if token.installation and repository.id in world.installations[token.installation].excluded:
                    allowed = allowed and not pushing and not repository.private
                if not token.installation:
                    allowed = role in (("write", "maintain", "admin") if pushing else ("read", "triage", "write"))
                    allowed = allowed or role in ("maintain", "admin")
                if not allowed or (pushing and repository.archived):
                    return Response(f"Permission to {full_name}.git denied to {user}.", 403, media_type="text/plain")
            elif pushing or repository.private:
                return Response("Authentication required", 401, challenge)
        except Moved as error:
            to = f"{error.new.removeprefix('/repos')}.git/{rest}?{request.url.query}"
            return Response(status_code=301, headers={"location": to})
        except ApiError as error:
            status = 401 if error.status == 401 else error.status
            return Response(str(error), status, challenge if status == 401 else None)
        path = f"/{full_name}.git/{rest}"
        headers, query = dict(request.headers), request.url.query
        status, answer, body = await smart_http(
            world.data, path, query, request.method, headers, await request.body(), user
        )
        return Response(body, status, answer)

    app.include_router(Apps(world, payloads, webhooks).router)
    pages = Pages(world, payloads, webhooks)
    app.include_router(OAuth(world, pages).router)
    app.include_router(pages.router)
    return app
