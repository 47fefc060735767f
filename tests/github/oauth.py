"""Signing in with GitHub: the web flow of a GitHub App with PKCE, and what a user's token may ask.

https://docs.github.com/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-user-access-token-for-a-github-app
"""

import base64
import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from tests.github.pages import Pages
from tests.github.rest import authenticated
from tests.github.world import ApiError, World

CODE_SECONDS = 600
TOKEN_SECONDS = 28_800


@dataclass
class Grant:
    """What a code stands for."""

    login: str
    redirect_uri: str
    challenge: str
    until: datetime


class OAuth:
    def __init__(self, world: World, pages: Pages) -> None:
        self.world = world
        self.pages = pages
        self.grants: dict[str, Grant] = {}
        self.router = APIRouter()
        api = "/api/v3/user/installations"
        for method, path, handler in (
            ("GET", "/login/oauth/authorize", self.ask),
            ("POST", "/login/oauth/authorize", self.authorize),
            ("POST", "/login/oauth/access_token", self.token),
            ("GET", api, self.installations),
            ("GET", api + "/{installation}/repositories", self.repositories),
        ):
            self.router.add_api_route(path, handler, methods=[method], response_model=None)

    async def ask(self, request: Request) -> Response:
        """The page on which a person agrees. It has a choice of people, where GitHub knows who is signed in."""
        asked = {name: request.query_params.get(name, "") for name in ("state", "redirect_uri", "code_challenge")}
        self._check(request.query_params.get("client_id", ""), asked["redirect_uri"])
        if request.query_params.get("code_challenge_method", "S256") != "S256":
            raise ApiError(422, "code_challenge_method must be S256")
        people = [user.login for user in self.world.users.values() if user.type == "User"]
        response = self.pages.show("authorize.html", title="Authorize", asked=asked, people=people)
        # Browsers hold redirects of a form to the policy, too.
        response.headers["content-security-policy"] += f" {asked['redirect_uri']}"
        return response

    async def authorize(self, request: Request) -> Response:
        fields = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        back = fields.get("redirect_uri", "")
        self._check(self.world.app.client_id, back)
        answer = {"state": fields.get("state", "")}
        if fields.get("action") == "cancel":
            return RedirectResponse(f"{back}?{urlencode(answer | {'error': 'access_denied'})}", 302)
        code = secrets.token_hex(10)
        until = self.world.now() + timedelta(seconds=CODE_SECONDS)
        self.grants[code] = Grant(fields["user"], back, fields.get("code_challenge", ""), until)
        return RedirectResponse(f"{back}?{urlencode(answer | {'code': code})}", 302)

    async def token(self, request: Request) -> Response:
        """Trouble comes with the status 200, as on GitHub."""
        fields = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        app = self.world.app
        if (fields.get("client_id"), fields.get("client_secret")) != (app.client_id, app.client_secret):
            return self._answer(request, {"error": "incorrect_client_credentials"})
        grant = self.grants.pop(fields.get("code", ""), None)
        if grant is None or grant.until <= self.world.now():
            return self._answer(request, {"error": "bad_verification_code"})
        if fields.get("redirect_uri", grant.redirect_uri) != grant.redirect_uri:
            return self._answer(request, {"error": "redirect_uri_mismatch"})
        hashed = hashlib.sha256(fields.get("code_verifier", "").encode()).digest()
        if grant.challenge and base64.urlsafe_b64encode(hashed).decode().rstrip("=") != grant.challenge:
            return self._answer(request, {"error": "bad_verification_code"})
        made = self.world.mint(grant.login, signed_in=True)
        answer = {"access_token": made.value, "expires_in": TOKEN_SECONDS, "scope": "", "token_type": "bearer"}
        return self._answer(request, answer)

    async def installations(self, request: Request) -> dict[str, Any]:
        """Those with a repository to which the person was given access."""
        user = authenticated(self.world, request).user
        accounts = {name.split("/")[0] for name in self._given(user)}
        found = [each for each in self.world.installations.values() if each.account in accounts]
        shown = [{"id": each.id, "account": {"login": each.account}} for each in found]
        return {"total_count": len(shown), "installations": self._page(request, shown)}

    async def repositories(self, request: Request, installation: int) -> dict[str, Any]:
        user = authenticated(self.world, request).user
        if installation not in self.world.installations:
            raise ApiError(404, "Not Found")
        account = self.world.installations[installation].account
        names = [name for name in self._given(user) if name.startswith(f"{account}/")]
        shown = [self.pages.payloads.repository(self.world.repository(name)) for name in names]
        return {"total_count": len(shown), "repositories": self._page(request, shown)}

    def _given(self, user: str) -> list[str]:
        """The repositories to which the person was given access; that one may be read by all is not enough."""
        return [
            name
            for name, repository in self.world.repositories.items()
            if repository.permissions.get(user, "none") != "none"
        ]

    def _page(self, request: Request, all_: list[dict[str, Any]]) -> list[dict[str, Any]]:
        size = min(100, int(request.query_params.get("per_page", 30)))
        start = (int(request.query_params.get("page", 1)) - 1) * size
        return all_[start : start + size]

    def _check(self, client_id: str, redirect_uri: str) -> None:
        app = self.world.app
        if client_id != app.client_id:
            raise ApiError(404, "Not Found")
        if redirect_uri not in app.callback_urls:
            raise ApiError(400, "The redirect_uri is not associated with this application.")

    def _answer(self, request: Request, answer: dict[str, Any]) -> Response:
        if "application/json" in request.headers.get("accept", ""):
            return JSONResponse(answer)
        return Response(urlencode(answer), media_type="application/x-www-form-urlencoded")
