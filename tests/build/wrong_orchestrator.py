"""Typical wrong answers of step 5."""

from __future__ import annotations

from tests.build.wrong import WrongAnswer

STORE = "    move(db, saga, waiting_for=command_id, due=now + TIMEOUT)\n"
INSERT = "    db.execute(outbox.insert().values(**values))\n"
SEND = "    send(db, saga, participant, command, fields, now)\n\n\ndef send"

AFTERWARDS = '''LATER: list[dict[str, Any]] = []


def afterwards(function: Any) -> Any:
    """Return the function, followed by the insertion of its commands."""

    def call(*arguments: Any) -> None:
        function(*arguments)
        while LATER:
            with engine.begin() as db:
                db.execute(outbox.insert().values(**LATER.pop()))

    return call


start_return, on_reply, on_time = map(afterwards, (start_return, on_reply, on_time))


def move(db'''

WRONG = (
    WrongAnswer(
        "state in memory",
        (
            ("def create_tables()", "WAITING: dict[str, str] = {}\n\n\ndef create_tables()"),
            ('saga.waiting_for != reply["command_id"]', 'WAITING.get(saga.return_id) != reply["command_id"]'),
            (STORE, f"    WAITING[saga.return_id] = command_id\n{STORE}"),
        ),
        3,
        "commands: RestockGoods → UndoRestock",
        "deployment",
    ),
    WrongAnswer(
        "a command that is sent before its state is stored",
        ((INSERT, f"    with engine.begin() as first:\n    {INSERT.replace('db.', 'first.')}"),),
        7,
        "at commit:2, repeated after a time-out: commands: RestockGoods → RefundMoney → UndoRestock; "
        "done and not undone: 1 × refund",
        "a return that was called off",
    ),
    WrongAnswer(
        "a command that is sent after its state is stored",
        ((INSERT, "    LATER.append(values)\n"), ("def move(db", AFTERWARDS)),
        7,
        "at commit:2, then repeated: commands: UndoRestock",
    ),
    WrongAnswer(
        "a time-out that reads without a lock",
        ((".where(sagas.c.due <= now).with_for_update(skip_locked=True)", ".where(sagas.c.due <= now)"),),
        6,
        "they sent RefundMoney and UndoRestock",
        "called off and carried out",
    ),
    WrongAnswer(
        "a reply that is compared without a lock",
        (('sagas.c.return_id == reply["return_id"]).with_for_update()', 'sagas.c.return_id == reply["return_id"])'),),
        6,
        "they sent",
    ),
    WrongAnswer(
        "a late reply that is accepted",
        (('saga is None or saga.waiting_for != reply["command_id"]', "saga is None or saga.waiting_for is None"),),
        4,
        "BookCourier was sent before the command before it was answered",
        "the courier comes before the money is refunded",
    ),
    WrongAnswer(
        "compensation in the order of the steps",
        (
            ("STEPS[NAMES.index(stack[-1])]", "STEPS[NAMES.index(stack[0])]"),
            (
                "            go_back(db, saga, saga.stack[:-1], now)\n",
                "            go_back(db, saga, saga.stack[1:], now)\n",
            ),
        ),
        2,
        "BookCourier → UndoRestock → UndoRefund",
    ),
    WrongAnswer(
        "compensation that does not wait",
        (
            (
                SEND,
                "    for name in stack:\n        _, participant, _, command, fields = STEPS[NAMES.index(name)]\n    "
                + SEND,
            ),
        ),
        2,
        "was sent before the command before it was answered",
    ),
    WrongAnswer(
        "the next command without a look at the outcome",
        (('elif reply["outcome"] == "done":', 'elif reply["outcome"]:'),),
        2,
        "restock failed, refund done, courier done: commands: RestockGoods → RefundMoney",
    ),
    WrongAnswer(
        "a time-out that trusts that nothing was done",
        (
            (
                'go_back(db, saga, saga.stack, now, failure_reason="timeout")',
                'go_back(db, saga, saga.stack[:-1], now, failure_reason="timeout")',
            ),
        ),
        5,
        "restock lost, refund done, courier done: commands: RestockGoods; done and not undone: 1 × restock",
    ),
    WrongAnswer(
        "an undo that is not repeated",
        (("            else:\n                go_back(db, saga, saga.stack, now)\n", ""),),
        5,
        "restock done, refund done, courier failed",
        "hang",
    ),
    WrongAnswer(
        "a step that is repeated with another id",
        (
            ('f"{saga.return_id}/{command}"', 'f"{saga.return_id}/{command}/{uuid.uuid4()}"'),
            (
                '                go_back(db, saga, saga.stack, now, failure_reason="timeout")',
                "                go_forward(db, saga, saga.stack[:-1], now)",
            ),
        ),
        5,
        "RestockGoods → RestockGoods",
    ),
    WrongAnswer(
        "a view that counts the step that is under way",
        (('saga.stack[:-1] if saga.status == "RUNNING" else saga.stack', "saga.stack"),),
        8,
        "'done': ['restock']",
    ),
)
