"""GitHub: whether it takes our credentials, and whether the App may do what Troop does."""

import asyncio

from bot.errors import ForgeError, SettingsError
from bot.forge.identity import LATER_EVENTS, AppIdentity, Hook, app_hook, app_identity, token_login
from bot.preflight.finding import Finding
from bot.settings import Settings

_NAME = "GitHub"


async def github(settings: Settings) -> list[Finding]:
    """The credentials, and what the App lacks."""
    return await asyncio.to_thread(_look, settings)


def _look(settings: Settings) -> list[Finding]:
    try:
        if settings.app_id:
            app = app_identity(settings)
            return [*_of_app(settings, app), *_of_hook(app_hook(settings, clock_off=app.clock_off))]
        if settings.token.get_secret_value():
            return _of_token(settings, token_login(settings))
    except SettingsError as error:
        return [Finding.missing(_NAME, str(error), fatal=True)]
    except ForgeError as error:
        return [Finding.missing(_NAME, str(error))]
    hint = "open /setup of `troop serve`, or set TROOP_APP_ID and TROOP_PRIVATE_KEY_FILE, or TROOP_TOKEN"
    return [Finding.optional(_NAME, "neither an App nor a token is set", hint)]


def _of_app(settings: Settings, app: AppIdentity) -> list[Finding]:
    found = [Finding.ok(_NAME, f"App {app.slug} ({app.id}) at {settings.github_url}")]
    page = f"{app.url.rstrip('/')}, or in the App's settings"
    if lacking := app.missing_permissions:
        found.append(
            Finding.missing(
                "GitHub permissions",
                f"the App lacks {', '.join(lacking)}",
                f"grant it under Permissions & events ({page}), then accept it where the App is installed",
            )
        )
    if lacking := app.missing_for_checks:
        hint = f"grant it under Permissions & events ({page}), then accept it where the App is installed"
        losses = ["its pull requests get no check run"] if "checks: write" in lacking else []
        if lacking != ("checks: write",) or "checks" not in app.permissions:
            losses.append("failed checks start no revision ([publish] fix_ci)")
        detail = f"the App lacks {', '.join(lacking)}, so that {' and '.join(losses)}"
        found.append(Finding.optional("GitHub checks", detail, hint))
    if unheard := app.missing_events:
        works = LATER_EVENTS.keys() >= set(unheard)
        lost = f", so that {' and '.join({LATER_EVENTS[event]: 0 for event in unheard})}" if works else ""
        found.append(
            Finding(
                name="GitHub events",
                level="optional" if works else "missing",
                detail=f"the App does not subscribe to {', '.join(unheard)}{lost}",
                hint="tick them under Permissions & events in the App's settings",
            )
        )
    if "workflows" in app.permissions:
        found.append(
            Finding.optional(
                "GitHub permissions",
                "the App may write workflows, which Troop never does",
                "take the permission away: nobody should be able to use it",
            )
        )
    if app.clock_off:
        which = "ahead of" if app.clock_off > 0 else "behind"
        detail = f"this machine's clock is {abs(app.clock_off):.0f} s {which} GitHub's, by which it signs"
        found.append(Finding.optional("clock", detail, "set the clock, e.g. with NTP"))
    if app.installations == 0:
        hint = f"install it: {app.url}/installations/new"
        found.append(Finding.optional("GitHub installation", "installed nowhere yet", hint))
    if settings.app_slug and settings.app_slug != app.slug:
        detail = f"TROOP_APP_SLUG is {settings.app_slug}, but GitHub says {app.slug}, which is used"
        found.append(Finding.optional("GitHub slug", detail, "remove TROOP_APP_SLUG"))
    return found


def _of_hook(hook: Hook | None) -> list[Finding]:
    """The last delivery may be older than its remedy, so that it is no reason to be not ready."""
    name = "GitHub webhook"
    if hook is None:
        return []
    if not hook.url:
        hint = "set it to https://HOST/webhook in the App's settings, with a secret, and tick Active"
        return [Finding.missing(name, "the App has no webhook URL", hint)]
    status = hook.last_status
    if status is None or 200 <= status < 300:
        return [Finding.ok(name, f"{hook.url}{' took the last delivery' if status else ''}")]
    how = f"answered {status} to" if status else "did not answer"
    hints = {
        401: "TROOP_WEBHOOK_SECRET is not the secret in the App's settings",
        404: "the URL must end in /webhook of this server",
        0: "does the URL lead here from where GitHub is?",
    }
    hint = hints.get(status, "see the delivery under Advanced in the App's settings")
    detail = f"{hook.url} {how} the last delivery"
    return [Finding.optional(name, detail, f"{hint}; then redeliver it there")]


def _of_token(settings: Settings, login: str) -> list[Finding]:
    own = settings.token_login
    if own and own.casefold() != login.casefold():
        detail = f"TROOP_TOKEN_LOGIN is {own}, but the token is {login}'s, whose events would start runs"
        hint = f"set TROOP_TOKEN_LOGIN={login}"
        return [Finding.missing(_NAME, detail, hint, fatal=True)]
    return [Finding.ok(_NAME, f"{login}'s token at {settings.github_url}")]
