"""What the outbox must do."""

from labkit.build.judging import Requirement

ATOMIC = Requirement(
    1,
    "one transaction",
    "request_return() stores a row in returns and its event in outbox in one transaction. Wherever the process dies, "
    "there are both or neither, and when the customer asks again, there is one of each.",
)
ROLLBACK = Requirement(
    2,
    "rolled back together",
    "If the database refuses the transaction, neither the return nor an event remains, and the caller gets the error.",
)
CURRENT = Requirement(
    3,
    "current data",
    "The payload has return_id, order_id, customer_id, amount_cents, status and requested_at as the row in returns "
    "has them after the commit, and the lines. The status is REQUESTED.",
)
ENCODED_ONCE = Requirement(4, "JSON encoded once", "The payload is a JSON object, not a text that contains JSON.")
ADDRESSED = Requirement(
    5,
    "key and headers",
    "aggregateid is the order's id, since it becomes the record's key. type is ReturnRequested, aggregatetype is "
    "returns, traceparent is the caller's, created_at is set, and each event has another id.",
)
PARALLEL = Requirement(
    6,
    "200 at once",
    "200 requests from 20 threads leave one return and one event for each order, even when an order is requested twice "
    "at the same moment; both callers get the same return_id.",
)
REQUIREMENTS = (ATOMIC, ROLLBACK, CURRENT, ENCODED_ONCE, ADDRESSED, PARALLEL)
