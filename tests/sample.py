"""Which sample of what takes long is tried: chosen by a seed, the day's unless one is given; all in `.ci/long`."""

from __future__ import annotations

import os
from datetime import date

SEED = int(os.environ.get("SAGA_LAB_SEED") or date.today().toordinal())
LONG = bool(os.environ.get("SAGA_LAB_LONG"))
