"""Typical wrong answers of step 3."""

from __future__ import annotations

from tests.build.wrong import WrongAnswer

WRONG = (
    WrongAnswer(
        "a refund without a guard",
        (("if row.refund is not None:\n        return\n    if row.cancelled", "if row.cancelled"),),
        5,
        "RefundRequested → RefundRequested → RestockRequested → CourierBooked: ledger: 2 × refund 2000",
    ),
    WrongAnswer(
        "an undo without a guard",
        (
            ("if row.cancelled:\n        return\n    move(db, row, cancelled=True)", "move(db, row, cancelled=True)"),
            ('if row.refund == "DONE"', 'if row.refund in ("DONE", "UNDONE")'),
        ),
        2,
        "2 × refund_undone 2000",
    ),
    WrongAnswer(
        "an undo that ignores a return without a step",
        (
            (
                "if row.cancelled:\n        return\n    move",
                "if row.cancelled or row.refund == row.restock == row.courier:\n        return\n    move",
            ),
        ),
        3,
        "1 × refund 2000",
    ),
    WrongAnswer(
        "an undo that raises without its do",
        (
            (
                'if row.refund == "DONE":\n',
                'if row.refund is None:\n        raise LookupError("no refund")\n    if row.refund == "DONE":\n',
            ),
        ),
        3,
        "ReturnCancelled raised LookupError: no refund",
    ),
    WrongAnswer(
        "a state that is read before the transaction that writes",
        (
            (
                'row = lock(db, event["return_id"])\n',
                'row = lock(db, event["return_id"])\n    with engine.begin() as db:\n',
            ),
        ),
        6,
        "RefundRequested and RefundRequested at the same time: ledger: 2 × refund 2000",
    ),
    WrongAnswer(
        "a state that is read without a lock",
        (
            (
                "select(returns).where(returns.c.return_id == return_id).with_for_update()",
                "select(returns).where(returns.c.return_id == return_id)",
            ),
        ),
        6,
        "at the same time",
    ),
    WrongAnswer(
        "duplicates that are remembered in memory",
        (
            ("def handle(", "SEEN: set[str] = set()\n\n\ndef handle("),
            (
                "    with engine.begin() as db:\n",
                '    if event["id"] in SEEN:\n        return\n'
                '    SEEN.add(event["id"])\n    with engine.begin() as db:\n',
            ),
            ("if row.refund is not None:\n        return\n    if row.cancelled", "if row.cancelled"),
        ),
        6,
        "RefundRequested and RefundRequested at the same time: ledger: 2 × refund 2000",
    ),
    WrongAnswer(
        "a late booking that is kept",
        (("    if row.cancelled:\n        release_courier(db, row, event)\n    else:\n        move", "    move"),),
        4,
        "ReturnCancelled → CourierBooked",
    ),
    WrongAnswer(
        "a refund that is deleted instead of undone",
        (
            (
                'append(db, event, f"{step}_undone", done.amount)',
                "db.execute(ledger.delete().where(ledger.c.entry_id == done.entry_id))",
            ),
        ),
        2,
        "ledger: no row",
    ),
    WrongAnswer(
        "a refund of what was not captured",
        (('event["amount_cents"] > refundable(db, event["order_id"])', "False"),),
        7,
        "RefundRequested for an order without a charge: ledger: 1 × refund 2000",
    ),
    WrongAnswer(
        "a refund that ignores the order's other returns",
        ((' - sums.get("refund", 0) + sums.get("refund_undone", 0)', ""),),
        7,
        "two returns of 3000 each for a charge of 5000: ledger: 2 × refund 3000",
    ),
    WrongAnswer(
        "a charge that is read without a lock",
        (("charges.c.order_id == order_id).with_for_update()", "charges.c.order_id == order_id)"),),
        7,
        "at the same time: ledger: 2 × refund 3000",
    ),
)
