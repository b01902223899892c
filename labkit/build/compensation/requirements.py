"""The requirements of step 3, and what it means for a customer if one is broken."""

from __future__ import annotations

from labkit.build.judging import Requirement

REQUIREMENTS = (
    Requirement(
        1,
        "both steps",
        "RefundRequested refunds the amount and publishes MoneyRefunded; RestockRequested puts the quantity back on "
        "sale and publishes GoodsRestocked. Each effect is one row of the ledger, in the transaction of its event.",
    ),
    Requirement(
        2,
        "undo what was done",
        "ReturnCancelled and CourierFailed undo each step that was done: a new row refund_undone or restock_undone "
        "with the same amount, and the event RefundReversed or RestockReversed. Ledger rows are never changed.",
    ),
    Requirement(
        3,
        "undo before do",
        "A step that arrives after an error of its return has no effect. It publishes RefundFailed or RestockFailed "
        "with the reason return_cancelled.",
    ),
    Requirement(
        4,
        "late success",
        "CourierBooked of a return that is cancelled, before or afterwards, publishes CourierReleased once.",
    ),
    Requirement(5, "duplicates", "Any event that arrives again, at any later time, changes nothing."),
    Requirement(
        6,
        "two instances",
        "Two events of one return in two instances at the same time have the effect of one after the other.",
    ),
    Requirement(
        7,
        "never more than was captured",
        "All refunds of an order together, less those that were undone, never exceed its charge. A step that would "
        "exceed it, or whose order has no charge, publishes RefundFailed with the reason not_captured, and its undoing "
        "charges nothing.",
    ),
)
BOTH, UNDO, EARLY_ERROR, LATE_SUCCESS, DUPLICATES, TWO_INSTANCES, CAPTURED = REQUIREMENTS

MEANING = {
    BOTH: "The customer sent the tea back, and waits for the money.",
    UNDO: "The return is called off, but the customer keeps the money, or the shop sells tea that is not there.",
    EARLY_ERROR: "Topics have no order between them: the money of a return that was called off is gone for good.",
    LATE_SUCCESS: "A courier rings at the door of a customer who has called the return off.",
    DUPLICATES: "Kafka delivers at least once: some customers get their money twice, others pay twice.",
    TWO_INSTANCES: "It works in every test, and on a busy day some customers get money that is never charged back.",
    CAPTURED: "A customer gets more money than the order has cost, and the shop notices at the end of the year.",
}
