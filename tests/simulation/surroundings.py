"""What all replicas of a world share: virtual time, chance, the pace of things, and the record of what happened."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random

from p2p_replication.protocol.messages import Ping, Pong
from tests.simulation.virtual_time import VirtualTime


@dataclass(frozen=True)
class Pace:
    """How long things take, in seconds; drawn evenly between the two."""

    frame: tuple[float, float] = (0.001, 0.030)
    #: A transaction, and the way of its outcome to whoever asked for it.
    work: tuple[float, float] = (0.0005, 0.002)
    #: The chance of a frame to be lost, which ends its link: the channel is reliable, or it is no more.
    losses: float = 0.0
    #: The chance of a frame to arrive twice, and to overtake those before it.
    duplicates: float = 0.0
    overtaking: float = 0.0

    @property
    def is_faithful(self) -> bool:
        """Frames arrive once and in order, as the data channel promises."""
        return not self.duplicates and not self.overtaking


STEADY = Pace()
DISTANT = Pace(frame=(0.15, 0.25))
SLOW_DATABASES = Pace(frame=(0.001, 0.02), work=(0.001, 0.15))
SLOW = Pace(frame=(0.001, 0.2), work=(0.001, 0.08))
LOSSY = Pace(frame=(0.001, 0.1), work=(0.001, 0.02), losses=0.01)
UNFAITHFUL = Pace(frame=(0.001, 0.2), work=(0.001, 0.01), duplicates=0.03, overtaking=0.15)


#: Bytes of unacknowledged batches: few, so that windows get full.
WINDOW = 2_000


class Surroundings:
    def __init__(self, seed: int, pace: Pace, window: int = WINDOW) -> None:
        self.time = VirtualTime()
        self.random = Random(seed)
        self.pace, self.window = pace, window
        #: Frames sent, by message type.
        self.frames: Counter[str] = Counter()
        self.links = 0
        #: What happened, if somebody wants to know.
        self.history: list[str] | None = None
        #: What ended sessions or models for somebody's fault.
        self.errors: list[tuple[str, str]] = []

    def draw(self, bounds: tuple[float, float]) -> float:
        return self.random.uniform(*bounds)

    def chance(self, probability: float) -> bool:
        return probability > 0 and self.random.random() < probability

    def note(self, who: str, what: object) -> None:
        """Add a line to the history."""
        if self.history is not None:
            self.history.append(f"{self.time.now:10.4f}  {who:<4} {what}")

    @property
    def busy_frames(self) -> int:
        """Return how many frames were sent that are no heartbeats."""
        return self.frames.total() - self.frames[Ping.__name__] - self.frames[Pong.__name__]
