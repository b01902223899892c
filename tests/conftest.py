"""Settings of Hypothesis for every suite."""

from __future__ import annotations

from hypothesis import settings

# On a busy machine, an example may be slow.
settings.register_profile("saga-lab", deadline=None)
settings.load_profile("saga-lab")
