"""Facts that are known before the call: the same as when they are computed, and none that looks at the call."""

from __future__ import annotations

from datetime import UTC, datetime

NOW = datetime(2026, 11, 21, 10, 30, tzinfo=UTC)
