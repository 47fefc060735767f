"""The settings as a server may use them."""

from bot.errors import SettingsError
from bot.settings.files import text_of
from bot.settings.models import Settings


def needs_setup(settings: Settings) -> bool:
    """Whether the server has no credentials yet and says where GitHub reaches it, so that `/setup` can make an App."""
    return bool(settings.public_url) and not settings.app_id and not settings.token.get_secret_value()


def checked(settings: Settings, *, receives: bool = True, works: bool = True) -> Settings:
    """The settings as a server may use them. Raises `SettingsError` for what is missing or unsafe.

    A process that only `receives` deliveries needs no private key, one that only `works` needs no webhook secret.
    """
    if receives and not settings.webhook_secret.get_secret_value():
        raise SettingsError("TROOP_WEBHOOK_SECRET is empty; set it to the secret of the webhook in the App's settings")
    if settings.sandbox.kind == "process":
        raise SettingsError(
            "TROOP_SANDBOX_KIND=process runs code that strangers and models wrote without a container, which a server "
            "must not; install Docker and set TROOP_SANDBOX_KIND=docker"
        )
    token = bool(settings.token.get_secret_value())
    if not settings.app_id and not token:
        raise SettingsError(
            "neither an App nor a token is set; set TROOP_APP_ID and TROOP_PRIVATE_KEY_FILE, or TROOP_TOKEN; "
            "or set TROOP_PUBLIC_URL alone, and `troop serve` offers /setup"
        )
    key = settings.private_key_file
    if works and settings.app_id and not settings.private_key.get_secret_value() and not key:
        raise SettingsError("TROOP_APP_ID is set but no key; set TROOP_PRIVATE_KEY_FILE to the App's .pem file")
    if works and settings.app_id and key:
        text_of(key, "TROOP_PRIVATE_KEY_FILE")  # says what is in the way
    sandbox = settings.sandbox.model_copy(update={"kind": "docker"})  # `auto` must not fall back to processes
    return settings.model_copy(update={"sandbox": sandbox})
