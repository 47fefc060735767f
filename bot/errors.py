"""One error tree. Fields are for machines; the message, in lower case, says what was wrong and what to do about it.

TroopError
|-- SettingsError           the operator's settings can't be used
|-- ModelMissing            the model that was named is not there; the message says how to fetch it
|-- FetchFailed             a published model can't be fetched; the message says why
|-- EndpointError           the model endpoint can't be used at all (wrong URL, key, or model name)
|-- EndpointDown            the model endpoint can't be reached now; also a ConnectionError, worth a retry
|-- SandboxError            the sandbox itself failed (not what ran in it); worth a retry
|   `-- SandboxUnavailable  there is no such sandbox on this machine
|-- BuildFailed             the repository's own dependencies can't be installed; trying again would not help
|-- ForgeError              GitHub, or the local checkout, refused
|   |-- RateLimited         ... for now; `retry_after` seconds
|   |-- Refused             ... for good: permission, archived repository, protected branch
|   |   `-- BranchTaken     ... the branch has commits that are not Troop's
|   `-- GitFailed           git ended with an error; `words` is what it said
|-- CheckoutError           the repository can't be checked out safely (too large, links that lead out, ...)
|-- StoreUnavailable        the database can't be reached or written now; also a ConnectionError, worth a retry
|-- BackupError             a backup can't be made or restored; the message says why
|-- BundleError             a bundle can't be written or is not one; the message says what is wrong with it
|-- RetryRefused            a run can't be started again now
|-- EvaluationError         tasks or results of `troop eval` can't be used
|-- JournalBusy             another `troop solve` works on the same question
|-- RunHeld                 the run may not start yet: paused, or a cap is reached
|-- LeaseLost               another worker has taken the run; stop without writing anything
`-- RunStopped              somebody asked the run to stop
"""


class TroopError(Exception):
    """Base of every error that Troop raises on purpose. `str(error)` may be shown to people."""


class SettingsError(TroopError):
    """The operator's settings can't be used; the message names the variable and what to set."""


class ModelMissing(TroopError):
    """The model that was named is not there, or has not been fetched."""


class FetchFailed(TroopError):
    """A published model can't be fetched: no network, no such package, another hash, no disk."""


class EvaluationError(TroopError):
    """A file of tasks or of results can't be used; the message names the line, or what differs."""


class EndpointError(TroopError):
    """The model endpoint can't be used at all; asking again would not help."""


class EndpointDown(TroopError, ConnectionError):
    """The model endpoint can't be reached now: it restarts, or its address is wrong. Worth a retry.

    No `EndpointError`, by which a part of a run ends with what it has: the run waits, and goes on from its journal.
    """


class SandboxError(TroopError):
    """The sandbox itself failed, not what ran in it."""


class SandboxUnavailable(SandboxError):
    """There is no such sandbox here (no Docker daemon, no image); the message says how to get it."""


class ImageMissing(SandboxUnavailable):
    """The daemon has no such image, and can't get it."""


class BuildFailed(TroopError):
    """The image for a repository's tests can't be built, for a reason that lies in the repository or its settings."""

    def __init__(
        self, what: str, *, why: str = "", log: str = "", setup: str = "", image: str = "", missing: bool = False
    ) -> None:
        super().__init__(f"{what}: {why}" if why else what)
        self.what = what  # which part of the build failed, and how
        self.why = why  # what its log tells of the cause, if anything
        self.log = log  # the end of it, sanitised
        self.setup = setup  # a line for `[sandbox] setup` to try
        self.image = image  # one that holds what is missing
        self.missing = missing  # a program is not in the image, so nothing was tried


class ForgeError(TroopError):
    """GitHub, or the local checkout, refused."""


class RateLimited(ForgeError):
    """GitHub asked us to wait."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after  # seconds


class Refused(ForgeError):
    """GitHub refused for good: permission, archived repository, protected branch."""


class Unpublished(Refused):
    """GitHub refused the branch or the pull request of a run that was solved; its candidates are told on the issue."""


class BranchTaken(Refused):
    """The branch has commits that are not Troop's; they are left alone."""


class GitFailed(ForgeError):
    """Git ended with an error. `words` is what it said, redacted."""

    def __init__(self, message: str, words: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.words = words
        self.retry_after = retry_after  # seconds that the server asked us to wait; None: it did not


class CheckoutError(TroopError):
    """The repository can't be checked out safely; the message says what is in the way."""


class StoreUnavailable(TroopError, ConnectionError):
    """The database can't be reached or written now (down, locked, disk full); worth a retry."""


class RetryRefused(TroopError):
    """A run can't be started again now; the message says why and what to do."""


class RunHeld(TroopError):
    """A run may not start yet; the message says why. The issue has been told."""

    def __init__(self, message: str, until: float) -> None:
        super().__init__(message)
        self.until = until  # seconds since 1970


class BackupError(TroopError):
    """A backup can't be made or restored; nothing was changed."""


class BundleError(TroopError):
    """A bundle can't be written, or what was read is none that can be trusted to be whole."""


class JournalBusy(TroopError):
    """Another process works on the same question, and writes the journal of it."""


class LeaseLost(TroopError):
    """Another worker has taken the run; stop without writing anything."""


class RunStopped(TroopError):
    """Somebody asked the run to stop."""
