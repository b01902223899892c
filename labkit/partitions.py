"""Into which partition of a topic Kafka's own clients, and so Debezium, put a key.

Source: Apache Kafka, ``org.apache.kafka.common.utils.Utils.murmur2`` and ``BuiltInPartitioner.partitionForKey``.
"""

from __future__ import annotations

SEED = 0x9747B28C
MIX = 0x5BD1E995
MASK = 0xFFFFFFFF
"""Java's int has 32 bits."""


def murmur2(key: bytes) -> int:
    """Return Kafka's hash of a key, as an unsigned number of 32 bits."""
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


def partition_of(key: str, partitions: int = 4) -> int:
    """Return the partition in which the records with this key lie.

    Parameters
    ----------
    key : str
        The record's key.
    partitions : int
        How many partitions the topic has.
    """
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions
