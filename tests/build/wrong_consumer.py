"""Typical wrong answers of step 2."""

from __future__ import annotations

from tests.build.wrong import WrongAnswer

COMMIT = """        try:
            self.consumer.commit(message=message, asynchronous=False)
        except KafkaException as error:  # this instance has lost the partition; the inbox covers a repetition
            print(f"offset not committed: {error}")
"""
IN_INBOX = """        is_new = session.scalar(
            insert(Inbox).values(event_id=event_id).on_conflict_do_nothing().returning(Inbox.event_id)
        )
        if is_new:
"""
OPEN = "    with Session.begin() as session:\n"
HANDLE = '            handle(uuid.UUID(headers["ce_id"].decode()), json.loads(message.value()))\n'
WAIT = "                return self.wait(message, number)\n"

WRONG = (
    WrongAnswer(
        "no inbox",
        ((IN_INBOX, "        if True:\n"),),
        1,
        "refunds of each parcel: 2, 2, 2, 2, 2, 2",
        "refunded twice",
    ),
    WrongAnswer(
        "auto commit",
        ((' "enable.auto.commit": False,', ""), (COMMIT, "")),
        2,
        "since enable.auto.commit is on\nkilled",
        "never refunded",
    ),
    WrongAnswer(
        "commit before work",
        (
            (COMMIT, ""),
            (
                HANDLE,
                "            if number == 1:\n"
                f"                self.consumer.commit(message=message, asynchronous=False)\n{HANDLE}",
            ),
        ),
        2,
        "the offset is committed before the database transaction\nkilled",
        "never refunded",
    ),
    WrongAnswer(
        "inbox in a transaction before the work",
        (
            (
                IN_INBOX,
                f"{IN_INBOX.removesuffix('        if is_new:' + chr(10))}"
                "    if is_new:\n        with Session.begin() as session:\n",
            ),
        ),
        2,
        "refund and inbox are apart\nkilled after database commit 3: refunds of each parcel: 1, 0, 1, 1",
        "never refunded",
    ),
    WrongAnswer(
        "inbox checked outside of the transaction",
        (
            (
                OPEN,
                "    with Session() as before:\n        if before.get(Inbox, event_id):\n            return\n" + OPEN,
            ),
            (
                IN_INBOX,
                "        session.execute(insert(Inbox).values(event_id=event_id).on_conflict_do_nothing())\n"
                "        if True:\n",
            ),
        ),
        3,
        "another got its partition, the first woke up: refunds of each parcel: 2, 1, 1",
        "refunded twice",
    ),
    WrongAnswer(
        "a retry that blocks all partitions",
        (
            (
                WAIT,
                "                time.sleep(RETRY_SECONDS)\n                return self.attempt(message, number + 1)\n",
            ),
        ),
        4,
        "0 of 2 parcels of others were refunded",
        "all customers",
    ),
    WrongAnswer(
        "except: pass",
        (
            (
                "            self.publish_dead_letter(message, number, error)\n        except Exception",
                "            pass\n        except Exception",
            ),
            (WAIT + "            self.publish_dead_letter(message, number, error)\n", "                pass\n"),
        ),
        5,
        "the refused parcel has no refund and no dead letter, and its offset is committed",
        "lost without a trace",
    ),
    WrongAnswer(
        "no rebalance callback",
        ((", on_revoke=self.forget", ""),),
        6,
        "has 1 dead letter(s) and 1 refund(s): the first instance tried it again",
        "by hand",
    ),
    WrongAnswer(
        "an outage counts as attempts",
        (
            (
                "            return self.wait(message, number - 1)\n",
                "            if number < MAX_ATTEMPTS:\n                return self.wait(message, number)\n"
                "            self.publish_dead_letter(message, number, RuntimeError('no database'))\n",
            ),
        ),
        7,
        "3 dead letters",
        "a dead letter for each customer",
    ),
    WrongAnswer(
        "an outage ends the process",
        (("            return self.wait(message, number - 1)\n", "            raise\n"),),
        7,
        "ended with status 1",
        "never refunded",
    ),
    WrongAnswer(
        "SIGTERM is not handled",
        (("    signal.signal(signal.SIGTERM, worker.stop)\n", ""),),
        8,
        "status -15, 1 refunds, offset 1 committed; the group was not left with close()",
        "stand still",
    ),
)
