"""What people do on a page: the commands of `/troop` comments, by buttons.

Only a POST with the session's token does something, and only once. GitHub is asked for the person's permission before
it is stored; the worker asks again before it carries it out, as it does for comments, and answers on the issue. The
machine's owner needs none.
"""

import hashlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

from bot.lifecycle import ACTIVE, STOPPABLE, RunState
from bot.records import Command, CommandName
from bot.store import Accepted, Pause, RunInfo
from bot.web.reading import RunReader
from bot.web.sessions import Visitor
from bot.web.site import Form, Site
from bot.webhook.decisions import Decision, ReceiveCommand
from bot.webhook.rules import Rules
from bot.webhook.slash_command import MAX_WORDS, parse

log = logging.getLogger(__name__)

Enqueue = Callable[[str], Awaitable[None]]


class RunWriter(RunReader, Protocol):
    """What actions need of the store, beside reading."""

    def accept(
        self, guid: str, event: str, action: str, decision: Decision, *, patience: float | None = None
    ) -> Accepted: ...

    def counts(self) -> Mapping[RunState, int]: ...

    def pause(self, reason: str = ..., by: str = ...) -> None: ...

    def resume(self) -> int: ...

    def paused(self) -> Pause | None: ...


def action_routes(site: Site, store: RunWriter, enqueue: Enqueue) -> APIRouter:
    router = APIRouter()
    actions = _Actions(site, store, enqueue)
    router.add_api_route("/runs/{run_id}/{action}", actions.post, methods=["POST"], response_model=None)
    return router


def offered(run: RunInfo, *, counted: bool, others: bool) -> frozenset[CommandName]:
    """What can be done with a run as it is now. `counted`: it ended with a count; `others`: which has candidates beside
    the winner."""
    found = {CommandName.STOP} if run.state in STOPPABLE and not run.stop_requested else set()
    if run.state not in ACTIVE:
        found.add(CommandName.RETRY)
    if counted:
        found.add(CommandName.MORE)
    if others:
        found.add(CommandName.USE)
    return frozenset(found)


def nonce() -> str:
    """Names one form, so that pressing its button twice does one thing."""
    return secrets.token_urlsafe(16)


class _Actions:
    def __init__(self, site: Site, store: RunWriter, enqueue: Enqueue) -> None:
        self._site = site
        self._store = store
        self._enqueue = enqueue
        self._rules = Rules.of(site.settings)

    async def post(self, request: Request, run_id: int, action: str) -> Response:
        site = self._site
        visitor = site.visitor(request)
        form = await site.form(request, visitor)
        run = await site.run(visitor, run_id)
        command = self._command(action, form)
        await self._check(visitor, run)
        accepted = await site.thread(self._accept, visitor, run, command, form["nonce"])
        log.info(
            "page action=%s argument=%s run=%d repository=%s by=%s: %s",
            command.name.value,
            command.argument if command.argument is not None else "-",
            run.id,
            run.repository,
            visitor.name,
            accepted.note,
        )
        if accepted.job_id is not None:
            await self._enqueue(accepted.job_id)
        elif not accepted.duplicate:
            raise HTTPException(429, accepted.note)
        return RedirectResponse(f"/runs/{run.id}?done={command.name.value}", 303)

    def _command(self, action: str, form: Form) -> Command:
        """As a comment would say it. Raises `HTTPException`."""
        words = form["words"].replace("\0", "").strip()
        if len(words) > MAX_WORDS:
            raise HTTPException(422, f"the words are longer than {MAX_WORDS:,} characters")
        command = None
        if action in ("stop", "retry", "use", "more"):
            rest = {"use": form["candidate"], "more": form["attempts"], "retry": words}.get(action, "")
            command = parse(f"/troop {action} {rest}")
        if command is None or command.name.value != action:
            raise HTTPException(422, "the form is not complete: go back and try again")
        return command

    async def _check(self, visitor: Visitor, run: RunInfo) -> None:
        """The rules of comments. Raises `HTTPException`."""
        if not self._rules.allows(run.repository):
            raise HTTPException(403, f"{run.repository} is not in TROOP_REPOSITORIES")
        if not (await self._site.access(visitor, run.repository, fresh=True)).write:
            raise HTTPException(403, f"you have no write permission in {run.repository}, which this needs")

    def _accept(self, visitor: Visitor, run: RunInfo, command: Command, once: str) -> Accepted:
        """Store it, as a comment is. Blocks."""
        digest = hashlib.sha256(f"{visitor.session}\0{once}".encode()).digest()
        decision = ReceiveCommand(
            repository=run.repository,
            installation_id=run.installation_id,
            issue_number=run.issue_number,
            comment_id=-1 - int.from_bytes(digest[:7]),  # GitHub's are positive
            sender=visitor.name,
            command=command.model_copy(update={"by_page": True, "by_owner": visitor.admin}),
            repository_id=run.repository_id,
        )
        return self._store.accept(f"page-{digest.hex()[:32]}", "page", command.name.value, decision)
