"""The base of all records."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Base of all nouns."""

    model_config = ConfigDict(frozen=True, extra="forbid")
