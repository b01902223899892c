"""What the consumer must do."""

from labkit.build.judging import Requirement

ONCE = Requirement(1, "once", "An event that arrives twice, with the same ce_id, is handled once: one row in refunds.")
CRASHES = Requirement(
    2,
    "kill -9",
    "Wherever the process is killed, each parcel has exactly one refund after a restart. The offset is committed after "
    "the database transaction, and refund and inbox are in one transaction.",
)
TWO_INSTANCES = Requirement(
    3,
    "two instances",
    "An instance that freezes in the middle of its transaction loses its partitions to another instance. When it wakes "
    "up, the parcel has one refund, and both instances go on.",
)
OTHERS_FLOW = Requirement(
    4,
    "only its own partition waits",
    "A record that fails is tried again after RETRY_SECONDS, at most MAX_ATTEMPTS times in one instance. Meanwhile the "
    "later records of its partition wait, and the other partitions are handled.",
)
DEAD_LETTERS = Requirement(
    5,
    "dead letters",
    "After MAX_ATTEMPTS, or at once if the value is no JSON or ce_id is missing, the record goes to DEAD_LETTER_TOPIC: "
    "key, value and headers unchanged, with dlq.topic, dlq.partition, dlq.offset, dlq.attempts (1 for a record that is "
    "not tried again) and dlq.error as further headers. Then its partition goes on.",
)
REBALANCE = Requirement(
    6,
    "a partition moves",
    "When another instance takes over a partition in which a record waits, the record belongs to that instance alone: "
    "the first one does not try it again.",
)
OUTAGE = Requirement(
    7,
    "the database is away",
    "While the database refuses connections, the process waits and counts no attempts. Afterwards it goes on by "
    "itself: one refund for each parcel, no dead letter.",
)
SHUTDOWN = Requirement(
    8,
    "clean shutdown",
    "After SIGTERM the process finishes the record at hand, commits its offset, leaves the group with close(), and "
    "ends with status 0 within 10 s.",
)
REQUIREMENTS = (ONCE, CRASHES, TWO_INSTANCES, OTHERS_FLOW, DEAD_LETTERS, REBALANCE, OUTAGE, SHUTDOWN)
