"""A learner's own service, as a notebook drives it: a file, a process, a database."""

from __future__ import annotations

from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from labkit.errors import KitError
from labstack import Lab
from labstack.errors import ComponentFailed

FOLDER = Path("work")
"""Where the files of guests are, from the folder of the notebook on."""


class Guest:
    """A service that somebody has added to the lab.

    Parameters
    ----------
    lab : Lab
        The running lab.
    name : str
        Its name; its file is ``work/NAME.py``.
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
        """Whether its process lives."""
        return self._lab.guests.runs(self.name)

    @property
    def connection(self) -> dict[str, str]:
        """How Debezium reaches its database, in the words of a connector's configuration."""
        where = conninfo_to_dict(self._lab.guests.database_for_connect(self.name))
        words = {"hostname": "host", "port": "port", "user": "user", "password": "password", "dbname": "dbname"}
        return {f"database.{word}": str(where[name]) for word, name in words.items()}

    @property
    def code(self) -> str:
        """What stands in its file; nothing where there is none."""
        return self.file.read_text(encoding="utf-8") if self.file.exists() else ""

    def write(self, code: str) -> None:
        """Write its file anew."""
        self.file.parent.mkdir(exist_ok=True)
        self.file.write_text(code.strip() + "\n", encoding="utf-8")

    def edit(self, old: str, new: str) -> None:
        """Put something else for a part of its file, which must be there just once.

        Raises
        ------
        KitError
            It isn't; nothing was changed.
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
        """Run its file as it is now; what ran before ends.

        Raises
        ------
        KitError
            There is no file, or its process has died; shows the end of its log.
        """
        if not self.file.exists():
            raise KitError(f"There is no {self.file.as_posix()}.", next_step="run the cell that writes it")
        try:
            self._lab.guests.start(self.name, self.file)
        except ComponentFailed as error:
            mend = f"mend {self.file.as_posix()}, and start it again"
            raise KitError(error.problem, log=error.log, next_step=mend) from None

    def stop(self) -> None:
        """End its process in good order."""
        self._lab.guests.stop(self.name)

    def kill(self) -> None:
        """End its process at once, as a crash would."""
        self._lab.guests.kill(self.name)

    def log(self, lines: int = 20) -> None:
        """Print the end of its log."""
        print(self._lab.guests.log(self.name, lines))


def invite(lab: Lab, name: str) -> Guest:
    """Give a service of one's own an empty database in the lab, and a folder for its file."""
    lab.guests.invite(name)
    FOLDER.mkdir(exist_ok=True)
    return Guest(lab, name)
