"""One server, two listeners: what arrives at the pages' port is for the pages, all else for the webhook."""

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from bot.settings import Settings


def by_port(settings: Settings, webhook: FastAPI, pages: FastAPI | None) -> ASGIApp:
    """The application for both sockets. The webhook's port serves pages only where both ports are one."""
    if pages is None:
        return webhook
    if settings.pages.port == settings.port:
        webhook.mount("/", pages)
        return webhook

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        # The port of the socket, which no header changes.
        server = scope.get("server")
        to_pages = scope["type"] == "http" and server is not None and server[1] == settings.pages.port
        await (pages if to_pages else webhook)(scope, receive, send)

    return dispatch
