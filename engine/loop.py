"""The engine's thread: it owns the core and reads a mailbox; outputs go back to the event loop.

The event loop stays responsive because all computation happens here, and torch releases the interpreter's lock.
"""

import asyncio
import gc
import logging
import sys
import threading
from collections import deque

import torch

from engine.core import Core
from engine.errors import RankError, ServingError, ShutdownError, StepError
from engine.schedule.sequence import Output, Request

logger = logging.getLogger(__name__)

LAST_STEP = 5.0  # seconds to wait for a step that a dead process may block


def calm_collector() -> None:
    """Spare the garbage collector the model and the modules, which stay, and let it come seldom: it looks through every
    list of tokens. Almost nothing here needs it, since few objects refer to each other in circles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


class EngineLoop:
    """Runs a core until stopped. `submit` and `abort` may be called from any thread."""

    def __init__(self, core: Core, threads: int | None = None) -> None:
        """
        Args:
            core: from `start` on, only this loop's thread touches it.
            threads: of torch; `None` leaves torch's choice.
        """
        self.core = core
        self._threads = threads
        self._mail: deque[tuple[str, Request]] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._failure: RankError | None = None
        self._live: dict[int, Request] = {}  # requests without their last output, by identity
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._events: asyncio.AbstractEventLoop | None = None

    def start(self, events: asyncio.AbstractEventLoop) -> None:
        """Start the thread; outputs are handed to `Request.notify` on `events`."""
        self._events = events
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the step it is in; requests that are not finished fail with `ShutdownError`."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(None if self._failure is None else LAST_STEP)
        if not self.stuck:
            self.core.model.close()
            gc.unfreeze()  # or the collector would never free the model

    def fail(self, error: RankError) -> None:
        """End for good: every request fails with `error`, even while the thread is stuck in a step."""
        with self._wake:
            self._failure = error
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(LAST_STEP)
        if self.stuck:
            self._deliver(self._fail_all(error))

    @property
    def stuck(self) -> bool:
        """Whether the thread is still computing although it was told to end, since it waits for a process that is
        gone.
        """
        return self._failure is not None and self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """Whether requests are being served."""
        return self._thread.is_alive() and not self._stopping

    def submit(self, request: Request) -> None:
        """Queue a request.

        Raises:
            ContextLengthError: it can never fit.
            ShutdownError: the engine is stopping.
        """
        self.core.check(request)
        self._post("submit", request)

    def abort(self, request: Request) -> None:
        """Stop a request at the next step; it gets no more outputs. No effect on a finished one."""
        if not self._stopping:
            self._post("abort", request)

    def _post(self, what: str, request: Request) -> None:
        with self._wake:
            if self._stopping:
                raise self._failure or ShutdownError("the engine is stopping")
            self._mail.append((what, request))
            self._wake.notify()

    # -- in the thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        torch.set_flush_denormal(True)  # before this thread's helpers start: they inherit it, and denormals are slow
        sys.setswitchinterval(0.001)  # seconds: this thread releases the lock often and needs it back soon
        calm_collector()
        while True:
            with self._wake:
                while not (self._mail or self._stopping or self.core.busy):
                    self._wake.wait()
                mail, self._mail = self._mail, deque()
                if self._stopping:
                    break
            try:
                self._deliver(self._turn(mail))
            except RankError as error:
                with self._wake:
                    self._failure, self._stopping = error, True
                    mail = self._mail
                break
        for _, request in mail:
            self._live[id(request)] = request
        self._deliver(self._fail_all(self._failure or ShutdownError("the engine is stopping")))

    def _turn(self, mail: deque[tuple[str, Request]]) -> list[Output]:
        try:
            self._deliver(self._read(mail))
            return self.core.step()
        except RankError:
            raise
        except Exception as error:  # a fault of the scheduler itself: start over rather than end
            logger.exception("the engine lost its state and starts over; all its requests end with an error")
            outputs = self._fail_all(StepError(f"the engine failed: {type(error).__name__}: {error}"))
            self.core.reset()
            return outputs

    def _read(self, mail: deque[tuple[str, Request]]) -> list[Output]:
        outputs = []
        for what, request in mail:
            if what == "abort":
                self.core.abort(request)
                self._live.pop(id(request), None)
                continue
            try:
                self.core.submit(request)
                self._live[id(request)] = request
            except ServingError as error:
                outputs.append(Output(request, 0, error=error))
        return outputs

    def _fail_all(self, error: ServingError) -> list[Output]:
        return [Output(request, 0, error=error) for request in self._live.values()]

    def _deliver(self, outputs: list[Output]) -> None:
        for output in outputs:
            if output.error is not None or output.request.finished:
                self._live.pop(id(output.request), None)
        if outputs and self._events is not None and not self._events.is_closed():
            self._events.call_soon_threadsafe(_dispatch, outputs)


def _dispatch(outputs: list[Output]) -> None:
    for output in outputs:
        if output.request.notify is not None:
            output.request.notify(output)
