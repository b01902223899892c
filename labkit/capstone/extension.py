"""A learner's service, as a notebook controls it: a file, a process, a database."""

from __future__ import annotations

from pathlib import Path

from labkit.errors import KitError
from labstack import Lab
from labstack.arguments import checked, checked_class
from labstack.clients.database_server import RELAY
from labstack.errors import ComponentFailed

FOLDER = Path("work")
"""The folder of the learners' service files, relative to the notebook's folder."""


@checked_class
class ExtensionService:
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
        state = "runs" if self.runs else "does not run"
        return f"{self.name}: {self.file.as_posix()} {state}; its database is called {self.name}."

    @property
    def runs(self) -> bool:
        """Whether the service's process is running."""
        return self._lab.extensions.runs(self.name)

    @property
    def connection(self) -> dict[str, str]:
        """The settings with which a Debezium connector reaches the service's database."""
        server = self._lab.extensions.server_for_connect(self.name)
        return {
            "database.hostname": server.host,
            "database.port": str(server.port),
            "database.user": RELAY,  # Connect has its password in a file
            "database.dbname": self.name,
        }

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
                f"{self.file.as_posix()} must contain this text once, but contains it {found} times:\n{old}",
                next_step="edit the file in an editor, or in the cell that wrote it",
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
            raise KitError(f"The file {self.file.as_posix()} does not exist.", next_step="run the cell that writes it")
        try:
            self._lab.extensions.start(self.name, self.file)
        except ComponentFailed as error:
            next_step = f"fix {self.file.as_posix()}, then start the service again"
            raise KitError(error.problem, log=error.log, next_step=next_step) from None

    def stop(self) -> None:
        """Stop the process gracefully."""
        self._lab.extensions.stop(self.name)

    def kill(self) -> None:
        """Kill the process at once, as in a crash."""
        self._lab.extensions.kill(self.name)

    def log(self, lines: int = 20) -> None:
        """Print the end of the service's log."""
        print(self._lab.extensions.log(self.name, lines))


@checked
def create_extension(lab: Lab, name: str) -> ExtensionService:
    """Create an empty database in the lab for an extension service, and a folder for its file."""
    lab.extensions.create(name)
    FOLDER.mkdir(exist_ok=True)
    return ExtensionService(lab, name)
