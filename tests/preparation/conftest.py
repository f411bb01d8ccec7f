from __future__ import annotations

from hypothesis import settings

# The same examples every time, and no verdict on how busy the machine is.
settings.register_profile("deterministic", derandomize=True, deadline=None, database=None)
settings.load_profile("deterministic")
