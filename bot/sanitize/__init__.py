"""Sanitizes text on its way into prompts and out to GitHub.

In: `clean` removes what people who read the issue don't see, and reports it. Out: `neutralize` for prose that a model
or a program wrote, `fence` and `inline` for its code and output, `redact` for secrets, `fit` for GitHub's limits.
"""

from bot.sanitize.clean import Cleaned, clean, clean_issue
from bot.sanitize.fit import BODY_LIMIT, CUT_NOTE, fit, outgoing
from bot.sanitize.neutralize import fence, inline, neutralize
from bot.sanitize.redact import REDACTED, redact

__all__ = [
    "BODY_LIMIT",
    "CUT_NOTE",
    "REDACTED",
    "Cleaned",
    "clean",
    "clean_issue",
    "fence",
    "fit",
    "inline",
    "neutralize",
    "outgoing",
    "redact",
]
