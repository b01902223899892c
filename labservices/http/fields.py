"""Field types and the base class of request bodies that several HTTP APIs use."""

from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

_PRINTABLE = r"^[^\x00-\x1f\x7f]+$"

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=_PRINTABLE)]
"""The id of a customer, a product or a destination in a request body. The id need not exist."""

NameInPath = Annotated[str, Path(min_length=1, max_length=64, pattern=_PRINTABLE)]
NameFilter = Annotated[str | None, Query(min_length=1, max_length=64, pattern=_PRINTABLE)]

MAX_FIELDS = 100
"""Number of fields of an object in a request above which they are not checked one by one."""


class RequestBody(BaseModel):
    """An object in a request's body. Unknown fields and values of other types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _limit_fields(cls, value: Any) -> Any:
        # Each unknown field is an error, and to list a hundred thousand of them would take a second.
        if isinstance(value, dict) and len(value) > MAX_FIELDS:
            expected = ", ".join(cls.model_fields)
            raise PydanticCustomError("fields", f"the object has {len(value)} fields; expected {expected}")
        return value
