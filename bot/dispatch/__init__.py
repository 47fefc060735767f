"""Queues of job ids behind `contracts.Dispatcher`: in this process, or arq on Redis for several workers."""

from bot.contracts import Dispatcher
from bot.dispatch.inprocess import InProcessDispatcher
from bot.dispatch.queues import Handler, queues
from bot.settings import Settings

__all__ = ["Handler", "open_dispatcher"]


def open_dispatcher(settings: Settings, handler: Handler) -> Dispatcher:
    """The queue that the settings ask for; connects at its first use. Raises `SettingsError`."""
    if not settings.redis_url:
        return InProcessDispatcher(handler, queues(settings.workers))
    from bot.dispatch.arq import ArqDispatcher  # Redis is not needed where it is not asked for

    return ArqDispatcher(handler, queues(settings.workers), settings.redis_url)
