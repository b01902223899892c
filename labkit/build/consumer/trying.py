"""Run the consumer once, and print what it did."""

from __future__ import annotations

from labkit.build.consumer.line import Parcel, PrivateGroup
from labkit.build.workplace import Workplace
from labstack.waiting import poll_until


def try_out(place: Workplace, crash: str = "", *, twice: bool = False, poison: bool = False) -> None:
    """Send three parcels, and print the refunds.

    Parameters
    ----------
    place : Workplace
        The learner's workplace.
    crash : str
        A point at which the process is killed, such as ``after-commit:2``; then it is started again.
    twice : bool
        Whether each parcel is sent twice.
    poison : bool
        Whether the first record is not JSON.
    """
    line, parcels = PrivateGroup(place, "run", 1), [Parcel(), Parcel(), Parcel()]
    place.environment.update(line.settings)
    (result,) = place.call("create_tables")
    if result.error:
        print(f"create_tables() raised {result.error}")
        return
    if poison:
        place.produce(line.topic, "{not JSON", "a", {"ce_id": "5e7b1c0a-0000-4000-8000-000000000001"}, 0)
    line.send(*(parcel for parcel in parcels for _ in range(2 if twice else 1)), partition=0)
    program = line.start(crash=crash)
    line.await_refunds(parcels, [program])
    if crash and not program.passed("crash"):
        print(f"The process did not come to {crash}.")
    elif crash:
        print(f"killed at {crash}, and started again")
        program = line.start()
        line.await_refunds(parcels, [program])
    line.await_commits(program)
    alive = program.is_alive
    program.terminate()
    poll_until(lambda: not program.is_alive, 10)
    for number, (_, refunds) in enumerate(line.refunds(parcels).items(), start=1):
        print(f"parcel {number}: {refunds} refund{'s' * (refunds != 1)}")
    print(f"dead letters: {len(line.dead_letters())}")
    if not alive:
        print(f"The process ended by itself with status {program.status}:\n{program.output(5)}")


__all__ = ["try_out"]
