"""Request one return, and print what is stored."""

from __future__ import annotations

from labkit.build.outbox.storage import FUNCTION, TOPIC, Request, raise_errors
from labkit.build.workplace import Workplace


def try_out(place: Workplace, crash: str = "") -> None:
    """Request one return, and print what is stored afterwards.

    Parameters
    ----------
    place : Workplace
        The learner's workplace.
    crash : str
        A point at which the process is killed, such as ``before-commit`` or ``after-commit``.
    """
    place.environment[TOPIC] = place.topic("events")
    raise_errors(place, "create_tables")
    program = place.start_call(FUNCTION, Request.new().arguments, crash=crash)
    status = program.wait()
    if program.passed("crash"):
        ended = f"was killed at {crash}"
    elif status or program.results[0].error:
        raise program.failure(f"failed in {FUNCTION}()")
    else:
        ended = "returned"
    print(f"{FUNCTION}() {ended}")
    for table in ("returns", "outbox"):
        exists = place.rows("SELECT to_regclass(%s) AS name", table)[0]["name"]
        number = place.rows(f"SELECT count(*) AS number FROM {table}")[0]["number"] if exists else "no table"
        print(f"{table:<9} {number}")
    print(f"{'topic':<9} {len(place.records(place.environment[TOPIC]))}")
