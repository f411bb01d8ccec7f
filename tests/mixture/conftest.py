from __future__ import annotations

from hypothesis import settings

# The same examples every time, and no time limit, because the machine may be busy.
settings.register_profile("deterministic", derandomize=True, deadline=None, database=None)
settings.load_profile("deterministic")
