"""What the check found, as the line of JSON it ends with."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

#: Rows must not travel by the signaling server: connecting takes a few kilobytes.
MAX_SIGNALING_BYTES = 200_000
#: A UUIDv7 has 74 random bits, which nothing compresses: less than this a row would not have come by the channel.
MIN_CHANNEL_BYTES_PER_ROW = 9
OK = "ok"


@dataclass
class Report:
    """The keys of the last line. A figure that was not reached is null."""

    rows: int | None = None
    first_sync_s: float | None = None
    rows_per_s: float | None = None
    live_ms_p50: float | None = None
    live_ms_p99: float | None = None
    web_save_ms_p99: float | None = None
    #: ``"ok"`` or what went wrong, by step; steps after a failure are not tried.
    steps: dict[str, str] = field(default_factory=dict)
    channel_bytes: int | None = None
    signaling_bytes: int | None = None
    digests_equal: bool = False
    failed_step: str | None = None
    total_s: float | None = None

    def check_bytes(self) -> str:
        """Return ``"ok"``, or why the byte counts can't be right."""
        if self.signaling_bytes is None or self.channel_bytes is None or self.rows is None:
            return "the workers left no totals of their bytes"
        if self.channel_bytes < self.rows * MIN_CHANNEL_BYTES_PER_ROW:
            return f"{self.channel_bytes:,} bytes on the data channel are too few for {self.rows:,} rows"
        if self.signaling_bytes == 0:
            return "no byte went by the signaling server, so the count is wrong"
        if self.signaling_bytes > min(MAX_SIGNALING_BYTES, self.channel_bytes):
            return f"{self.signaling_bytes:,} bytes went by the signaling server: rows must not travel there"
        return OK

    @property
    def everything_held(self) -> bool:
        return self.failed_step is None and self.digests_equal and all(step == OK for step in self.steps.values())

    def line(self) -> str:
        return json.dumps(asdict(self))
