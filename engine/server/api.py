"""The HTTP service: OpenAI's endpoints over an `EngineLoop`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from engine.loop import EngineLoop
from engine.server.body import MAX_BODY, BodyLimit, JSONRoute
from engine.server.error_answers import add_errors
from engine.server.generation import add_generation
from engine.server.information import add_information
from engine.server.service import Service, Serving


def create_app(loop: EngineLoop, name: str, api_key: str | None = None, serving: Serving | None = None) -> FastAPI:
    """The application. It starts `loop` when it starts, and stops it when it stops.

    Args:
        loop: not yet started.
        name: under which the model is served.
        api_key: bearer key that requests must carry; `None` for none.
        serving: how requests are taken.

    Raises:
        LoadError: `serving` names a form of replies that is not known, or the model's own defaults can't be used.
    """
    service = Service(loop, name, api_key, serving)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loop.start(asyncio.get_running_loop())
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(title="Troop engine", lifespan=lifespan)
    app.router.route_class = JSONRoute
    app.state.service = service
    app.add_middleware(BodyLimit, most=MAX_BODY)
    add_errors(app)
    if serving is not None and serving.cors_origins:
        app.add_middleware(CORSMiddleware, allow_origins=serving.cors_origins, allow_methods=["*"], allow_headers=["*"])

    add_information(app, service)
    add_generation(app, service)
    return app
