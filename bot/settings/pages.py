"""Settings of the pages, `TROOP_PAGES_...`."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

CALLBACK = "/sign-in/callback"


def web_address(text: str) -> str:
    """The address, or nothing. Raises `ValueError`, which does not repeat it."""
    if text and not re.fullmatch(r"https?://\S+", text):
        raise ValueError("is not a web address, which begins with https:// or http://")
    if "@" in text:  # it is shown to everybody
        raise ValueError("holds a name or a password, which can't be used there: set it without")
    if re.search(r"[?#]", text):
        raise ValueError("must be a plain address, without what begins with ? or #")
    return text


class PagesSettings(BaseModel):
    """Env: `TROOP_PAGES_...`."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """Address on which the pages listen."""
    port: int = Field(8001, ge=0, le=65_535)
    """Port of the pages; that of `TROOP_PORT`: beside the webhook; 0: no pages."""
    url: Annotated[str, AfterValidator(web_address), AfterValidator(lambda url: url.rstrip("/"))] = ""
    """Where people reach the pages, e.g. `https://troop.example.com`; pull requests link it. Empty: on this machine."""
    session_hours: float = Field(12.0, gt=0, le=720)
    """Hours after which people sign in again."""

    @property
    def address(self) -> str:
        """Where a browser finds the pages, without a slash at the end."""
        return self.url or f"http://127.0.0.1:{self.port}"

    @property
    def callback(self) -> str:
        """GitHub's way back after a sign-in, which the App's settings must list."""
        return self.address + CALLBACK

    def of_run(self, run_id: int) -> str:
        """Where people reach a run's page; "" where they reach it on this machine alone."""
        return f"{self.url}/runs/{run_id}" if self.url else ""
