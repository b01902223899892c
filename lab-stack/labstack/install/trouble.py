"""What an install refuses, and what it can't do."""

from __future__ import annotations

from labstack.errors import DownloadFailed


class Refused(DownloadFailed):
    """What came is not what it should be; no other way is tried in its place, so that nobody overlooks it."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            problem,
            next_step="nothing of it was installed. Try again from another network; if it comes again, tell whoever "
            "runs the registry. `--from go` builds the program from its source instead",
        )
