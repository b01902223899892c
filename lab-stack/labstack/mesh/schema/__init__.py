"""Istio's own schemas, and the validation of documents against them."""

from labstack.mesh.schema.check import check_schema
from labstack.mesh.schema.data import KINDS, about

__all__ = ["KINDS", "about", "check_schema"]
