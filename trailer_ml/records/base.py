"""What every record is: frozen, JSON-able, strict about its fields; and the ids that all of them use."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

ID_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,127}$"
TrailerId = Annotated[str, Field(pattern=ID_PATTERN)]
FilmId = Annotated[str, Field(pattern=ID_PATTERN)]
Version = Annotated[str, Field(pattern=ID_PATTERN)]


class Record(BaseModel):
    """A frozen fact. Unknown fields are an error: a newer writer is noticed, not half understood."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON values, for XCom and for the store."""
        return self.model_dump(mode="json")
