"""The requirements of step 5, and what it means for a customer if one is broken."""

from __future__ import annotations

from labkit.build.judging import Requirement

REQUIREMENTS = (
    Requirement(
        1,
        "one step after the other",
        "start_return() sends RestockGoods; each reply with the outcome done sends the next command, RefundMoney and "
        "then BookCourier. A command is a row of the outbox: aggregatetype is the participant, type the command, and "
        "the payload has command_id, return_id and the fields that the step lists. After the last reply the return is "
        "COMPLETED.",
    ),
    Requirement(
        2,
        "undo in reverse order",
        "After a reply with the outcome failed, the steps that were done are undone, the newest first, one after the "
        "other. Then the return is CANCELLED, with the reply's reason as failure_reason.",
    ),
    Requirement(3, "state in the database", "The process can be killed between any two calls, and nothing changes."),
    Requirement(4, "doubled replies", "A reply that arrives again, at any later time, changes nothing."),
    Requirement(
        5,
        "no reply",
        "30 s after a command without a reply, on_time() fails the step with the reason timeout. The step may have "
        "been done, so it is undone, too. A command that undoes is sent again every 30 s, with the same command_id, "
        "until a reply comes, whatever its outcome.",
    ),
    Requirement(
        6,
        "late replies",
        "A reply that arrives after the time-out changes nothing. If reply and time-out, or two copies of a reply, are "
        "handled by two instances at the same time, the result is that of one of them.",
    ),
    Requirement(
        7,
        "command and state together",
        "The process can be killed at any point within a call. After the call is repeated, immediately or after a "
        "time-out, no command is missing, and no command was sent that the stored state does not know.",
    ),
    Requirement(
        8,
        "the state can be seen",
        "view() returns status (RUNNING, COMPLETED, COMPENSATING, CANCELLED), waiting_for (the command without a "
        "reply, or None), done (the steps that stand, in their order; one that timed out may be among them) and "
        "failure_reason.",
    ),
    Requirement(
        9,
        "200 returns",
        "All of this at once, for 200 returns, while the process is killed again and again: each return ends, and its "
        "view is what the participants did.",
    ),
)
ORDER, REVERSE, STORED, DOUBLED, NO_REPLY, LATE, TOGETHER, VIEW, MANY = REQUIREMENTS

MEANING = {
    ORDER: "The customer waits for the money, because the saga stops before it is refunded.",
    REVERSE: "The return is called off, but the customer keeps the money, or the shop sells tea that is not there.",
    STORED: "Each deployment forgets the returns that are under way, and the shop can't tell what was done.",
    TOGETHER: "After a crash a courier comes for a return that was called off, or a return waits for ever.",
    DOUBLED: "A step is skipped or done twice: the courier comes before the money is refunded, or comes twice.",
    NO_REPLY: "One participant is down, and its returns hang, or keep an effect that is never undone.",
    LATE: "A return is called off and carried out at the same time: the customer has both the money and the tea.",
    VIEW: "The customer asks where the return is, and the shop gives a wrong answer.",
    MANY: "On a busy day with a few crashes, some returns never end.",
}
