"""Runners of a build. Ray reads its environment when it is imported, so it is set before any module does that."""

import os

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray would otherwise start the workers of a driver under `uv run` by `uv run` too.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
