"""The database behind Troop: what was received, what is to be done, and what was done."""

from bot.settings import Settings, SpendingSettings
from bot.store.announcements import Announcements
from bot.store.commands import Commands
from bot.store.database import Database
from bot.store.judgements import Judgements
from bot.store.lists import Lists
from bot.store.pruning import Pruning
from bot.store.queries import Queries
from bot.store.restarts import Restarts
from bot.store.runs import Runs
from bot.store.steps import Steps


class Store(Restarts, Runs, Announcements, Commands, Steps, Lists, Judgements, Queries, Pruning):
    """All methods block (a few milliseconds): call them with `in_thread`. Thread-safe.

    Every method raises `StoreUnavailable` where the database can't be reached or written; then nothing was changed,
    or all of it was (where the connection broke during the commit).
    """

    @classmethod
    def open(
        cls,
        url: str,
        *,
        quota_runs_per_hour: int = 20,
        max_crashes: int = 3,
        spending: SpendingSettings | None = None,
        paused: bool = False,
        secrets: tuple[str, ...] = (),
    ) -> "Store":
        """Connect and bring the tables up to date. Raises `SettingsError` for a URL that can't be used.

        `secrets`: what no command, review or mention that is stored may hold.
        """
        database = Database(url)
        database.migrate()
        return cls(
            database,
            quota_runs_per_hour=quota_runs_per_hour,
            max_crashes=max_crashes,
            spending=spending,
            paused=paused,
            secrets=secrets,
        )

    @classmethod
    def from_settings(cls, settings: Settings) -> "Store":
        return cls.open(
            settings.database_url,
            quota_runs_per_hour=settings.quota_runs_per_hour,
            max_crashes=settings.max_crashes,
            spending=settings.spending,
            paused=settings.paused,
            secrets=settings.secrets(),
        )

    def close(self) -> None:
        self.database.close()
