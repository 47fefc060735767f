"""Sessions in the visitor's own cookie: encrypted and signed, HttpOnly, SameSite, expiring.

Every process of one deployment reads them, since the key is derived from secrets that all have; changing one of those
ends all sessions. A session that was signed out of is remembered by the process that did it, until it would expire.
"""

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from fastapi import Request, Response
from pydantic import ValidationError

from bot.records import Record
from bot.settings import Settings

STATE_SECONDS = 600.0  # between the way to GitHub and back
_MOST_ENDED = 100_000  # sessions
_MOST_USED = 10_000  # ways back from GitHub, which anybody can begin


class Visitor(Record):
    """Who asks: somebody of GitHub, with the token that GitHub gave, or the machine's owner (`admin`)."""

    session: str  # random
    login: str = ""
    token: str = ""
    admin: bool = False
    until: float  # seconds since 1970

    @property
    def name(self) -> str:
        """For logs and for the page."""
        return self.login or "the machine's owner"


class Begun(Record):
    """A sign-in on its way to GitHub."""

    state: str
    verifier: str
    next: str
    until: float


class Sessions:
    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        material = "\0".join(
            secret.get_secret_value()
            for secret in (settings.webhook_secret, settings.client_secret, settings.admin_token)
        )
        if not material.strip("\0"):
            material = secrets.token_urlsafe(32)
        derived = HKDF(hashes.SHA256(), 64, salt=None, info=b"troop sessions").derive(material.encode())
        self._fernet = Fernet(base64.urlsafe_b64encode(derived[:32]))
        self._form_key = derived[32:]
        self._clock = clock
        self._seconds = settings.pages.session_hours * 3600
        self._secure = settings.pages.address.startswith("https://")
        prefix = "__Host-" if self._secure else ""
        self._session, self._state = f"{prefix}troop-session", f"{prefix}troop-sign-in"
        self._ended: dict[str, float] = {}  # until when
        self._used: dict[str, None] = {}  # states, the oldest first

    # -- sessions

    def visitor(self, request: Request) -> Visitor | None:
        """Who asks; None for strangers, and where the session has ended."""
        opened = self._opened(request.cookies.get(self._session, ""))
        try:
            visitor = Visitor.model_validate(opened)
        except ValidationError:
            return None
        return None if visitor.until <= self._clock() or visitor.session in self._ended else visitor

    def begin(self, response: Response, *, login: str = "", token: str = "", seconds: float | None = None) -> Visitor:
        """A new session; without a login that of the machine's owner. `seconds`: it lasts no longer."""
        lasts = min(self._seconds, seconds or self._seconds)
        visitor = Visitor(
            session=secrets.token_urlsafe(16), login=login, token=token, admin=not login, until=self._clock() + lasts
        )
        self._set(response, self._session, visitor, lasts)
        return visitor

    def end(self, response: Response, visitor: Visitor) -> None:
        now = self._clock()
        if len(self._ended) >= _MOST_ENDED:
            self._ended = {session: until for session, until in self._ended.items() if until > now}
        self._ended[visitor.session] = visitor.until
        self._delete(response, self._session)

    # -- forms

    def form_token(self, visitor: Visitor) -> str:
        """What a form of this session must carry, which no other site can know."""
        return hmac.new(self._form_key, visitor.session.encode(), hashlib.sha256).hexdigest()

    def is_form_token(self, visitor: Visitor, token: str) -> bool:
        return hmac.compare_digest(self.form_token(visitor).encode(), token.encode())

    # -- the way to GitHub and back

    def send_away(self, response: Response, begun: Begun) -> None:
        self._set(response, self._state, begun, STATE_SECONDS)

    def came_back(self, request: Request, response: Response, state: str) -> Begun | None:
        """The sign-in of this browser that the state belongs to; it works once."""
        opened = self._opened(request.cookies.get(self._state, ""))
        self._delete(response, self._state)
        try:
            begun = Begun.model_validate(opened)
        except ValidationError:
            return None
        same = hmac.compare_digest(begun.state.encode(), state.encode())
        if not same or begun.until <= self._clock() or begun.state in self._used:
            return None
        self._used[begun.state] = None
        if len(self._used) > _MOST_USED:  # GitHub's code, too, works once
            del self._used[next(iter(self._used))]
        return begun

    def begun(self, next_: str) -> Begun:
        return Begun(
            state=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(48),
            next=next_,
            until=self._clock() + STATE_SECONDS,
        )

    # -- cookies

    def _opened(self, sealed: str) -> object:
        try:
            return json.loads(self._fernet.decrypt(sealed.encode()))
        except (InvalidToken, ValueError):
            return None

    def _set(self, response: Response, name: str, record: Record, seconds: float) -> None:
        sealed = self._fernet.encrypt(record.model_dump_json().encode()).decode()
        response.set_cookie(
            name, sealed, max_age=int(seconds), path="/", secure=self._secure, httponly=True, samesite="lax"
        )

    def _delete(self, response: Response, name: str) -> None:
        response.delete_cookie(name, path="/", secure=self._secure, httponly=True, samesite="lax")
