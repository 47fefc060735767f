"""The base of all records."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """The base of all records: frozen, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")
