"""Settings of model endpoints, `TROOP_MAIN_...` and `TROOP_RELEVANCE_...`."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from bot.settings.credentials import WRITE_SO

_EXAMPLE = "http://127.0.0.1:8100/v1"
_CALLS = re.compile(r"/(?:(?:chat/)?completions|models|embeddings|responses)$")


def endpoint_url(text: str) -> str:
    """The address of an OpenAI-compatible API, or nothing.

    What is no address of an API but leads to one is mended: no scheme, white space, the address of one of its calls.
    Raises `ValueError`.
    """
    text = text.strip()
    if not text:
        return ""
    if "://" not in text and not re.match(r"https?[:/]", text, re.IGNORECASE):
        text = f"http://{text}"
    try:
        parts = urlsplit(text)
        whole = bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        why = WRITE_SO if "@" in text else error  # which may repeat a part of a password
        raise ValueError(f"is not a web address ({why}); they look like {_EXAMPLE}") from None
    if parts.scheme not in ("http", "https") or not whole or re.search(r"""[\s'"<>\\]""", text):
        raise ValueError(f"is not a web address, which looks like {_EXAMPLE}")
    if parts.query or parts.fragment:
        raise ValueError(f"has what begins with ? or #, which calls can't be sent with; addresses look like {_EXAMPLE}")
    return _CALLS.sub("", text.rstrip("/")).rstrip("/")


def header_secret(secret: SecretStr) -> SecretStr:
    """A secret that is sent as `Authorization: Bearer SECRET`. Raises `ValueError` for what can't be."""
    value = secret.get_secret_value().strip()
    if not (value.isascii() and value.isprintable()):
        raise ValueError(
            "has characters that can't be sent (accented letters, curly quotes, a line end): copy it again from where "
            "it was made"
        )
    if value[:7].lower() == "bearer ":
        raise ValueError("begins with the word Bearer, which is sent before it anyway: set what follows that word")
    return SecretStr(value)


HeaderSecret = Annotated[SecretStr, AfterValidator(header_secret)]


class ModelSettings(BaseModel):
    """One model role. Env: `TROOP_MAIN_...` for the main one, `TROOP_RELEVANCE_...` for the reader of every file."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    base_url: Annotated[str, AfterValidator(endpoint_url)] = ""
    """Address of an OpenAI-compatible API, e.g. `http://127.0.0.1:8100/v1`; empty: Troop's own engine."""
    api_key: HeaderSecret = SecretStr("none")
    """Key of the endpoint; `none` for one that asks for no key."""
    name: str = ""
    """Name of the model; empty: the first that the endpoint lists."""
    context_window: int = Field(0, ge=0)
    """Tokens of prompt and reply; 0: ask the endpoint, else 131,072."""
    tokenizer: str = ""
    """Folder of a tokenizer, for endpoints without /tokenize."""
    concurrency: int = Field(64, gt=0)
    """Calls under way at once."""
    timeout: float = Field(600.0, gt=0)
    """Seconds that one call may take."""
    first_answer_timeout: float = Field(180.0, gt=0)
    """Seconds for the first answer of an endpoint."""
    retries: int = Field(4, ge=0)
    """How often a failed call is repeated."""
