"""What an install refuses, and what it can't do."""

from __future__ import annotations

from labstack.errors import DownloadFailed


class Refused(DownloadFailed):
    """What came is not what it should be; no other way is tried in its place, so that nobody overlooks it."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            problem,
            next_step="nothing was installed. Try another network. If it happens again, report it to the program's "
            "project. `--from` takes another way",
        )
