"""YAML scalars, parsed as Kubernetes and istiod parse them.

Both follow Go's yaml.v2, which differs from PyYAML: ``y`` and ``n`` are booleans, ``1e3`` is a number, ``80.0`` is the
integer 80, and a date and ``1:30`` are strings. A checker that parsed them differently would accept documents that a
cluster rejects.
"""

from __future__ import annotations

import math
import re

TAG = "tag:yaml.org,2002:"
BOOLEANS = {
    form: value
    for value, words in ((True, ("y", "yes", "true", "on")), (False, ("n", "no", "false", "off")))
    for word in words
    for form in (word, word.capitalize(), word.upper())
}
NULLS = {"", "~", "null", "Null", "NULL"}
NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
INTEGER = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
INT64, UINT64 = -(2**63), 2**64

Scalar = str | int | float | bool | None


def read(text: str, *, plain: bool, tag: str | None) -> Scalar:
    """Return the value of a scalar.

    Parameters
    ----------
    text : str
        The scalar, with quotes and escapes already resolved.
    plain : bool
        Whether the scalar is unquoted, so that its form determines its type.
    tag : str or None
        The explicit tag, such as ``tag:yaml.org,2002:str``, or None.

    Raises
    ------
    ValueError
        The tag is not a YAML scalar tag or does not fit the text, or the number is not finite. The message names the
        cause.
    """
    if tag == TAG + "str" or (tag is None and not plain) or tag == "!":
        return text
    value = _by_looks(text)
    if tag is None:
        return value
    kind = tag.removeprefix(TAG)
    if tag == kind or kind not in {"int", "float", "bool", "null", "timestamp"}:
        raise ValueError(f"Istio does not support the tag `{tag.replace(TAG, '!!')}`; remove it")
    if kind == "timestamp":
        return text
    if kind == "float" and type(value) is int:
        return float(value)
    if {"int": int, "float": float, "bool": bool, "null": type(None)}[kind] is not type(value):
        raise ValueError(f"the value `{text[:40]}` does not match its tag `!!{kind}`")
    return value


def _by_looks(text: str) -> Scalar:
    if text in BOOLEANS:
        return BOOLEANS[text]
    if text in NULLS:
        return None
    if NOT_FINITE.fullmatch(text):
        raise ValueError(f"Kubernetes does not support the number `{text}`; if it is a string, put it in quotes")
    if text[0] not in "+-.0123456789":
        return text
    number = text.replace("_", "") if text[0] != "." else text
    if len(number) < 80 and INTEGER.fullmatch(number):
        integer = _integer(number)
        if INT64 <= integer < UINT64:
            return integer
    if FLOAT.fullmatch(number) and math.isfinite(real := float(number)):
        return int(real) if real.is_integer() and abs(real) < 2**63 else real
    return text


def _integer(number: str) -> int:
    if number.lstrip("+-").startswith("0") and number.lstrip("+-").isdigit():
        return int(number, 8)  # octal: 010 is eight
    return int(number, 0)
