"""A learner's service, as a notebook controls it: a file, a process, a database."""

from __future__ import annotations

from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from labkit.errors import KitError
from labstack import Lab
from labstack.errors import ComponentFailed

FOLDER = Path("work")
"""The folder of the learners' service files, relative to the notebook's folder."""


class Guest:
    """An extension service in the lab.

    Parameters
    ----------
    lab : Lab
        The running lab.
    name : str
        The service's name; its file is ``work/NAME.py``.
    """

    def __init__(self, lab: Lab, name: str) -> None:
        self._lab = lab
        self.name = name
        self.file = FOLDER / f"{name}.py"

    def __repr__(self) -> str:
        how = "runs" if self.runs else "does not run"
        return f"{self.name}: {self.file.as_posix()} {how}; its database is called {self.name}."

    @property
    def runs(self) -> bool:
        """Whether the service's process is running."""
        return self._lab.guests.runs(self.name)

    @property
    def connection(self) -> dict[str, str]:
        """The settings with which a Debezium connector reaches the service's database."""
        where = conninfo_to_dict(self._lab.guests.database_for_connect(self.name))
        words = {"hostname": "host", "port": "port", "user": "user", "password": "password", "dbname": "dbname"}
        return {f"database.{word}": str(where[name]) for word, name in words.items()}

    @property
    def code(self) -> str:
        """The content of the service's file; empty if there is no file."""
        return self.file.read_text(encoding="utf-8") if self.file.exists() else ""

    def write(self, code: str) -> None:
        """Write the service's file, replacing its content."""
        self.file.parent.mkdir(exist_ok=True)
        self.file.write_text(code.strip() + "\n", encoding="utf-8")

    def edit(self, old: str, new: str) -> None:
        """Replace a part of the service's file, which must occur exactly once.

        Raises
        ------
        KitError
            The part does not occur exactly once; the file is unchanged.
        """
        old, new = old.strip("\n"), new.strip("\n")
        found = self.code.count(old)
        if found != 1:
            raise KitError(
                f"{self.file.as_posix()} has this {found or 'no'} times:\n{old}",
                next_step="change the file by hand, in an editor or in the cell that has written it",
            )
        self.write(self.code.replace(old, new))

    def start(self) -> None:
        """Start the service from its current file; stop the running process first.

        Raises
        ------
        KitError
            There is no file, or the process has died; the message shows the end of its log.
        """
        if not self.file.exists():
            raise KitError(f"There is no {self.file.as_posix()}.", next_step="run the cell that writes it")
        try:
            self._lab.guests.start(self.name, self.file)
        except ComponentFailed as error:
            mend = f"mend {self.file.as_posix()}, and start it again"
            raise KitError(error.problem, log=error.log, next_step=mend) from None

    def stop(self) -> None:
        """Stop the process gracefully."""
        self._lab.guests.stop(self.name)

    def kill(self) -> None:
        """Kill the process at once, as in a crash."""
        self._lab.guests.kill(self.name)

    def log(self, lines: int = 20) -> None:
        """Print the end of the service's log."""
        print(self._lab.guests.log(self.name, lines))


def invite(lab: Lab, name: str) -> Guest:
    """Create an empty database in the lab for an extension service, and a folder for its file."""
    lab.guests.invite(name)
    FOLDER.mkdir(exist_ok=True)
    return Guest(lab, name)
