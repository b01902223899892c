"""The error for content that fails verification."""

from __future__ import annotations

from labstack.errors import DownloadFailed


class VerificationFailed(DownloadFailed):
    """The content failed verification. No other install source is tried, so that the problem is not overlooked."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            problem,
            next_step="nothing was installed. Try another network. If the problem persists, report it to the program's "
            "project, or select another install source with `--from`",
        )
