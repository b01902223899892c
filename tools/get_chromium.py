"""Install Chromium for the browser suite. Exit status 77 if there is none and none can be installed.

python -m tools.get_chromium
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

SKIPPED = 77
NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str | None:
    """Return the path of Chromium: the environment variable CHROMIUM, else the one on PATH."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def main() -> int:
    """Install Chromium where apt can do so without prompts, and return the exit status."""
    if chromium():
        return 0
    if os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
            "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        }
        for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "chromium"]):
            subprocess.run(["apt-get", *words], **quiet)  # type: ignore[call-overload]
    if chromium():
        return 0
    print("SKIPPED: there is no Chromium here, so no notebook is looked at in a browser", file=sys.stderr, flush=True)
    return SKIPPED


if __name__ == "__main__":
    sys.exit(main())
