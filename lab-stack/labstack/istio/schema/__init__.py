"""Istio's own schemas, and the validation of documents against them."""

from labstack.istio.schema.check import check_schema
from labstack.istio.schema.data import KINDS, source_info

__all__ = ["KINDS", "check_schema", "source_info"]
