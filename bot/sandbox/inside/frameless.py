"""Signal handlers that a candidate sets get no frame. Standard library only, Python 3.8+. Executed by `runner.py`.

The interpreter hands a handler the frame that it interrupts, and no audit hook hears of it: by that frame the handler
could look at the test that calls the candidate.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def frameless(changed: set[str]) -> None:
    """From now on, for handlers that are set while a changed file, or code without a file, is among the callers."""
    import _signal  # type: ignore[import-not-found]

    getframe, set_, get, is_call, real = sys._getframe, _signal.signal, _signal.getsignal, callable, os.path.realpath
    is_text, default = str.startswith, _signal.default_int_handler
    wrapped: dict[Any, Any] = {}  # what was meant, by what was set

    def named(frame: Any) -> bool:
        while frame is not None:
            name = frame.f_code.co_filename
            if name in changed or real(name) in changed or (is_text(name, "<") and not is_text(name, "<frozen ")):
                return True
            frame = frame.f_back
        return False

    def signal(number: Any, handler: Any) -> Any:
        if is_call(handler) and handler is not default and named(getframe(1)):
            meant = handler

            def handler(received: int, _: Any) -> Any:
                return meant(received, None)

            wrapped[handler] = meant
        before = set_(number, handler)
        return wrapped.get(before, before) if is_call(before) else before

    def getsignal(number: Any) -> Any:
        found = get(number)
        return wrapped.get(found, found) if is_call(found) else found

    signal.__doc__, getsignal.__doc__ = set_.__doc__, get.__doc__
    _signal.signal, _signal.getsignal = signal, getsignal
