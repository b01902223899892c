"""Settings of Hypothesis for every suite."""

from __future__ import annotations

from hypothesis import settings

# A slow example on a busy machine is no failure.
settings.register_profile("saga-lab", deadline=None)
settings.load_profile("saga-lab")
