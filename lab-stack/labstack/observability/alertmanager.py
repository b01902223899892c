"""The options of Alertmanager, shared by all backends."""

from __future__ import annotations

from labstack.config.paths import CONFIG

CONFIGURATION = CONFIG / "alertmanager" / "alertmanager.yml"


def options(configuration: str, data: str, listen: str) -> list[str]:
    """Return the command-line arguments of Alertmanager 0.25 or newer.

    Parameters
    ----------
    configuration : str
        Path of ``alertmanager.yml``.
    data : str
        Folder of the silences and the log of notifications.
    listen : str
        Address and port.
    """
    return [
        f"--config.file={configuration}",
        f"--storage.path={data}",
        f"--web.listen-address={listen}",
        "--cluster.listen-address=",  # one instance, so it needs no gossip
        "--log.level=warn",
    ]
