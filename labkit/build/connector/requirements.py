"""What the connector of step 4 must do."""

from __future__ import annotations

from labkit.build.judging import Requirement

CONTRACT = Requirement(
    1,
    "topic, key, headers, payload",
    "A row of the outbox becomes a record in the topic that deploy() gets. Its key is aggregateid, its headers are the "
    "columns that deploy() gets (header: column), and its value is the payload: the JSON object itself.",
)
HANDOVER = Requirement(
    2,
    "nothing is sent again",
    "The outbox already holds the rows that the old publisher has sent. None of them is published again.",
)
GAPLESS = Requirement(
    3,
    "nothing is lost in between",
    "The old publisher stops after prepare(). Each row that is committed from then on is published, although deploy() "
    "comes later.",
)
PRIVATE = Requirement(
    4,
    "only the outbox leaves the database",
    "The publication contains inserts into outbox, and nothing of returns, customers and page_views.",
)
COMPLETE = Requirement(
    5,
    "no event is skipped",
    "If Kafka refuses an event, the connector stops there, visibly. Once the cause is gone and its task is restarted, "
    "it publishes that event and all later ones.",
)
QUIET = Requirement(
    6,
    "a quiet outbox retains no log",
    "If page_views grows by 20 MB while no event is written, the slot confirms this part of the log within 30 s.",
)
OUTAGE = Requirement(
    7,
    "back after an outage",
    "After an outage of the database, the connector continues by itself and publishes every event.",
)
CHANGE = Requirement(
    8,
    "a change loses nothing",
    "deploy() with another topic and one more header changes the running connector, even if Connect restarts at that "
    "moment: it returns when Connect has accepted the change. Each event is in the old topic or in the new one, and "
    "an event that is committed after the connector runs again is only in the new one.",
)
REQUIREMENTS = (CONTRACT, HANDOVER, GAPLESS, PRIVATE, COMPLETE, QUIET, OUTAGE, CHANGE)

NOT_SENT = "No service gets the event: the parcel comes back, and no one refunds it."
SENT_AGAIN = (
    "Returns of last week are announced again. A service that joined since then has none of them in its inbox: it "
    "books a second courier for each."
)
EXPOSED = (
    "The reader of the slot gets the bank details of every customer, and each visit to a page costs the connector work."
)
OTHER_CHANGES = "Each clean-up of the outbox sends the deleted rows through the log once more, for no reader."
LOG_FILLS_DISK = (
    "On a busy day without a return, PostgreSQL keeps the log until the disk is full, or gives the slot up with all "
    "events that it covers. Then the shop stands still, or events are lost."
)
STAYS_DOWN = "After a failover at night, no return is refunded until someone restarts the connector in the morning."
HALF_CHANGED = "A consumer that has moved to the new topic misses returns, and no alert tells anyone."
ACTED_ON_TWICE = "Consumers of both topics act on the same event: two couriers come for one parcel."
WRONG_KEY = "The events of one return go to different partitions and overtake each other: the refund before the return."
WRONG_HEADER = "Consumers choose by ce_type, and know duplicates by ce_id: they ignore the event, or act on it twice."
WRONG_VALUE = "Consumers get a text where they expect an object: each return ends as a dead letter."
