"""The database: `Store`, and the records that go in and out of it."""

from bot.store.announcements import Announcement
from bot.store.base import BUILDS
from bot.store.deliveries import Accepted, Arrived
from bot.store.holds import AGAIN, Hold, Pause
from bot.store.jobs import JobId, command_job, parse, run_job
from bot.store.lists import STATES, Listed, RunFilter
from bot.store.queries import DeliveryInfo, RunInfo
from bot.store.spending import Room, Spent
from bot.store.steps import DbJournal
from bot.store.store import Store
from bot.store.threads import in_thread

__all__ = [
    "AGAIN",
    "BUILDS",
    "STATES",
    "Accepted",
    "Announcement",
    "Arrived",
    "DbJournal",
    "DeliveryInfo",
    "Hold",
    "JobId",
    "Listed",
    "Pause",
    "Room",
    "RunFilter",
    "RunInfo",
    "Spent",
    "Store",
    "command_job",
    "in_thread",
    "parse",
    "run_job",
]
