"""Field types that several HTTP APIs use."""

from typing import Annotated

from fastapi import Path, Query
from pydantic import Field

_PRINTABLE = r"^[^\x00-\x1f\x7f]+$"

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=_PRINTABLE)]
"""The id of a customer, a product or a destination in a request body. The id need not exist."""

NameInPath = Annotated[str, Path(min_length=1, max_length=64, pattern=_PRINTABLE)]
NameFilter = Annotated[str | None, Query(min_length=1, max_length=64, pattern=_PRINTABLE)]
