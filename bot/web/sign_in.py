"""Signing in: with GitHub, through the App's OAuth, or with the token of the machine's owner."""

import hmac
import logging

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

from bot.forge.people import SignIn
from bot.settings.pages import CALLBACK
from bot.web.site import HEADERS, NotSignedIn, Site, local_path

log = logging.getLogger(__name__)


def sign_in_routes(site: Site) -> APIRouter:
    router = APIRouter()
    pages = _SignInPages(site)
    for path, method, handler in (
        ("/sign-in", "GET", pages.page),
        ("/sign-in/github", "POST", pages.to_github),
        (CALLBACK, "GET", pages.from_github),
        ("/sign-in/token", "POST", pages.with_token),
        ("/sign-out", "POST", pages.sign_out),
    ):
        router.add_api_route(path, handler, methods=[method], response_model=None)
    return router


class _SignInPages:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._github = SignIn(site.settings)

    async def page(self, request: Request, next: str = "/") -> Response:
        return await self._show(request, next)

    async def to_github(self, request: Request) -> Response:
        form = await self._site.form(request)
        if not self._github.possible:
            raise HTTPException(404, "signing in with GitHub needs TROOP_CLIENT_ID and TROOP_CLIENT_SECRET")
        begun = self._site.sessions.begun(local_path(form["next"]))
        response = RedirectResponse(self._github.begin(begun.state, begun.verifier), 303)
        self._site.sessions.send_away(response, begun)
        return response

    async def from_github(self, request: Request, code: str = "", state: str = "", error: str = "") -> Response:
        response = RedirectResponse("/", 303)
        begun = self._site.sessions.came_back(request, response, state)
        if begun is None:
            return await self._show(request, "/", "This sign-in was not begun here, or long ago: begin again.", 403)
        if error or not code:
            return await self._show(request, begun.next, "GitHub did not sign you in: begin again.", 403)
        person = await self._github.finish(code, begun.verifier)
        response.headers["location"] = begun.next
        self._site.sessions.begin(response, login=person.login, token=person.token, seconds=person.seconds)
        log.info("%s signed in to the pages", person.login)
        return response

    async def with_token(self, request: Request) -> Response:
        form = await self._site.form(request)
        wanted = self._site.settings.admin_token.get_secret_value()
        if not wanted or not hmac.compare_digest(form["admin_token"].strip().encode(), wanted.encode()):
            log.warning("a wrong admin token was tried on the pages")
            return await self._show(request, form["next"], "That is not the token.", 403)
        response = RedirectResponse(local_path(form["next"]), 303)
        self._site.sessions.begin(response)
        log.info("the machine's owner signed in to the pages")
        return response

    async def sign_out(self, request: Request) -> Response:
        visitor = self._site.sessions.visitor(request)
        if visitor is None:
            raise NotSignedIn
        await self._site.form(request, visitor)
        response = RedirectResponse("/sign-in", 303)
        self._site.sessions.end(response, visitor)
        return response

    async def _show(self, request: Request, next_: str, trouble: str = "", status: int = 200) -> Response:
        settings = self._site.settings
        github = settings.github_web_url if self._github.possible else ""
        shown: dict[str, object] = {
            "next": local_path(next_),
            "trouble": trouble,
            "github": github,
            "has_token": bool(settings.admin_token.get_secret_value()),
            "secrets_dir": str(settings.secrets_dir),
        }
        response = await self._site.show(request, "sign_in.html", shown, status=status)
        # Browsers hold the redirect that answers a form to the policy, too.
        policy = HEADERS["Content-Security-Policy"].replace(
            "form-action 'self'", f"form-action 'self' {github}".rstrip()
        )
        response.headers["Content-Security-Policy"] = policy
        return response
