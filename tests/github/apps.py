"""Apps made from a manifest, as GitHub does it: a form is posted, and the code that comes back becomes secrets.

https://docs.github.com/apps/sharing-github-apps/registering-a-github-app-from-a-manifest
"""

import json
import re
import secrets
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from tests.github.payloads import Payloads
from tests.github.webhooks import Webhooks
from tests.github.world import ApiError, App, World

_LEVELS = ("read", "write", "admin")


class Apps:
    """GitHub's confirmation page is left out: who posts the form is taken for its reader."""

    def __init__(self, world: World, payloads: Payloads, webhooks: Webhooks) -> None:
        self.world = world
        self.payloads = payloads
        self.webhooks = webhooks
        self.pending: dict[str, dict[str, Any]] = {}  # what a conversion answers, by code
        self.router = APIRouter()
        for path in ("/settings/apps/new", "/organizations/{organization}/settings/apps/new"):
            self.router.add_api_route(path, self.create, methods=["POST"], response_model=None)
        path = "/api/v3/app-manifests/{code}/conversions"
        self.router.add_api_route(path, self.convert, methods=["POST"], response_model=None)

    async def create(self, request: Request, organization: str = "") -> Response:
        fields = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        manifest = json.loads(fields.get("manifest", "{}"))
        self._check(manifest)
        from tests.github.server import make_key

        private, public = make_key()
        slug = re.sub(r"[^a-z0-9]+", "-", manifest["name"].lower()).strip("-")
        app = App(self.world.next_id(), slug, public, dict(manifest["default_permissions"]))
        app.events = list(manifest["default_events"])
        app.callback_urls = list(manifest.get("callback_urls", []))
        app.client_id, app.client_secret = f"Iv1.{secrets.token_hex(8)}", secrets.token_hex(20)
        self.world.app = app
        secret = secrets.token_hex(20)
        self.webhooks.url, self.webhooks.secret = manifest["hook_attributes"]["url"], secret
        self.webhooks.send("ping", "", {"zen": "Design for failure.", "hook_id": 1, "hook": {"type": "App"}})
        code = secrets.token_hex(20)
        self.pending[code] = {
            "id": app.id,
            "slug": slug,
            "name": manifest["name"],
            "owner": {"login": organization or "admin"},
            "html_url": f"{self.payloads.web}/apps/{slug}",
            "permissions": app.permissions,
            "events": app.events,
            "client_id": app.client_id,
            "client_secret": app.client_secret,
            "webhook_secret": secret,
            "pem": private,
        }
        query = {"code": code} | {
            name: request.query_params[name] for name in ("state",) if name in request.query_params
        }
        return RedirectResponse(f"{manifest['redirect_url']}?{urlencode(query)}", 302)

    def _check(self, manifest: dict[str, Any]) -> None:
        """As GitHub does. Raises `ApiError`."""
        wrong = [
            name for name in ("url", "redirect_url") if urlsplit(manifest.get(name, "")).scheme not in ("http", "https")
        ]
        if not 1 <= len(manifest.get("name", "")) <= 34:
            wrong.append("name")
        if not manifest.get("hook_attributes", {}).get("url"):
            wrong.append("hook_attributes")
        if not all(level in _LEVELS for level in manifest.get("default_permissions", {"": ""}).values()):
            wrong.append("default_permissions")
        if wrong:
            raise ApiError(422, f"Invalid GitHub App configuration: {', '.join(wrong)}")

    async def convert(self, request: Request, code: str) -> Response:
        if code not in self.pending:
            raise ApiError(404, "Not Found")
        return JSONResponse(self.pending.pop(code), 201)
