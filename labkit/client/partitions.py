"""The partition of a topic that Kafka's own clients, and therefore Debezium, choose for a key.

Source: Apache Kafka, ``org.apache.kafka.common.utils.Utils.murmur2`` and ``BuiltInPartitioner.partitionForKey``.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from labstack.arguments import checked

Partitions = Annotated[int, Field(ge=1)]

SEED = 0x9747B28C
MIX = 0x5BD1E995
MASK = 0xFFFFFFFF
"""Java's int has 32 bits."""


@checked
def murmur2(key: bytes) -> int:
    """Return Kafka's hash of a key, as an unsigned 32-bit number."""
    length = len(key)
    whole = length - length % 4
    state = SEED ^ length
    for at in range(0, whole, 4):
        word = int.from_bytes(key[at : at + 4], "little") * MIX & MASK
        state = (state * MIX & MASK) ^ ((word ^ word >> 24) * MIX & MASK)
    if rest := key[whole:]:
        state = (state ^ int.from_bytes(rest, "little")) * MIX & MASK
    state = (state ^ state >> 13) * MIX & MASK
    return state ^ state >> 15


@checked
def partition_of(key: str, partitions: Partitions = 4) -> int:
    """Return the partition of the records with this key.

    Parameters
    ----------
    key : str
        The record's key.
    partitions : int
        The number of partitions of the topic.
    """
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions
