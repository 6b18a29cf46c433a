"""One replica of a local pool: what a worker does, one call at a time, in the test's own thread."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.db import models

from p2p_replication.exceptions import ConfigurationError
from p2p_replication.models.companions import settle_companions
from p2p_replication.models.handle import check_pool_options, stored_direction
from p2p_replication.models.pool import Declaration, Pool
from p2p_replication.models.where import canonical_where, change_filter, filter_columns
from p2p_replication.pool.bundles import apply_bundle
from p2p_replication.pool.part import Part, ranks
from p2p_replication.protocol.messages import Changes
from p2p_replication.protocol.pull_schedule import PullSchedule
from p2p_replication.registry import registry
from p2p_replication.storage.applier import Applied
from p2p_replication.storage.capture.installation import install
from p2p_replication.storage.declared_merges import keep_merge_states
from p2p_replication.storage.held_fields import adopt_known_fields
from p2p_replication.storage.link_rows import bury_links
from p2p_replication.storage.posting import post_all
from p2p_replication.storage.repairs import repair
from p2p_replication.storage.replica_database import ReplicaDatabase
from p2p_replication.storage.retry import retry_parked
from p2p_replication.storage.write_budget import WriteBudget
from p2p_replication.testing.clock import Clock
from p2p_replication.testing.databases import LocalDatabase
from p2p_replication.transport import identity
from p2p_replication.worker.setups import part_of

if TYPE_CHECKING:
    from p2p_replication.testing.link import Side


class _Database(ReplicaDatabase):
    """With the pool's clock; what is gone with the pool need not be safe on the disk."""

    def __init__(self, place: LocalDatabase, clock: Clock) -> None:
        self._place, self.clock = place, clock
        super().__init__(
            place.alias, make_secret_key=identity.generate_secret_key, budget=WriteBudget(0.025, 0.0)
        )  # fmt: skip

    def _prepare(self) -> None:
        before = self._prepared
        super()._prepare()
        if self._prepared is not before and self._place.is_throwaway:
            with self.connection.cursor() as cursor:
                cursor.execute("PRAGMA synchronous=OFF")

    def now_ms(self) -> int:
        return self.clock.now_ms(self.alias)

    def timed(self, entries: Sequence[Any]) -> Sequence[Any]:
        # What local_writes() has logged has no time.
        return [entry._replace(wall=self.now_ms()) if entry.wall else entry for entry in entries]


class LocalReplica:
    """A database, and the parts that its models have in the pool."""

    def __init__(self, alias: str, topic: str, clock: Clock) -> None:
        self.alias = alias
        self.topic = topic
        self.clock = clock
        self.schedule = PullSchedule()
        #: The open sessions of this replica.
        self.sides: list[Side] = []
        self.parts: dict[str, Part] = {}
        self._ranks: dict[str, int] = {}
        self._place = LocalDatabase(alias)
        try:
            install(alias)
            self.start()
        except BaseException:
            self._place.close()
            raise

    def start(self) -> None:
        """Open the database, as the start of a worker does."""
        self.database = _Database(self._place, self.clock)
        adopt_known_fields(self.database)
        keep_merge_states(self.database)
        self.pool, _ = Pool.objects.using(self.alias).get_or_create(account="default", topic=self.topic)
        self._take_declarations()

    def declare(
        self,
        model: type[models.Model],
        where: Mapping[str, Any] | None,
        pull: Mapping[str, Any] | None,
        push: Mapping[str, Any] | None,
    ) -> None:
        """Let a model take part, or change how it does."""
        options = registry.for_model(model)
        check_pool_options(self.topic, "default", pull, push, "default")
        if options.label not in self.database.streams:
            raise ConfigurationError(
                f"{options.label} has no table in the database {self.alias!r}: a router's allow_migrate() keeps it "
                "out, or it has no migration."
            )
        filter_text = canonical_where(options, where)
        directions = {"pull": stored_direction("pull", pull), "push": stored_direction("push", push)}
        declaration, _ = Declaration.objects.using(self.alias).update_or_create(
            pool=self.pool,
            model=options.label,
            defaults=directions,
            create_defaults={**directions, **filter_columns(options.label, filter_text, self.alias)},
        )
        if declaration.filter_text != filter_text:
            change_filter(declaration, filter_text)
        settle_companions(self.pool)
        self._take_declarations()

    def _take_declarations(self) -> None:
        for declaration in self.pool.declarations.filter(model__in=list(self.database.streams)):
            self.parts[declaration.model] = part_of(declaration, self.database)
        self._ranks = ranks(self.parts)
        self.parts = {label: self.parts[label] for label in sorted(self.parts, key=self._ranks.__getitem__)}

    def post(self) -> bool:
        """Post what was written since the last call, at the time that the clock shows; tell whether there was any."""
        posted = post_all(self.database).entries > 0
        self._tell()
        return posted

    def apply(self, peer: str, batches: Sequence[Changes]) -> list[tuple[Changes, Applied]]:
        """Apply a peer's batches; return the outcome of each."""
        try:
            together = apply_bundle(self.parts, peer, batches)
            applied = together or [self.parts[changes.model].apply(peer, changes) for changes in batches]
            return list(zip(batches, applied, strict=True))
        finally:
            self._tell()

    def retry_parked(self) -> bool:
        """Try parked rows again; tell whether any came in."""
        ended = retry_parked(self.database) > 0
        self._tell()
        return ended

    def mend(self) -> bool:
        """Do what the worker does once everything that others have is here; tell whether there was anything."""
        mended = repair(self.database, self.parts) + bury_links(self.database, datetime.timedelta(0))
        self._tell()
        return mended > 0

    def _tell(self) -> None:
        """Tell the sessions, and the project's receivers, what has changed."""
        changed = self.database.take_changed()
        for label in sorted(changed & self.parts.keys(), key=lambda label: self._ranks[label]):
            vector = self.parts[label].vector()
            for side in self.sides:
                side.session.local_changed(label, vector)
        self.database.arrivals.tell()

    def want_pull(self, side: Side, model: str, initial: bool) -> None:
        self.schedule.want(side, model, self._ranks[model], 0.0, initial=initial, direct=True)

    def start_pull(self) -> bool:
        """Start the next pull, if none is under way; tell whether there was one."""
        pull = self.schedule.next(math.inf)
        if pull is None:
            return False
        pull.peer.pull(pull.models)  # type: ignore[attr-defined]
        return True

    def close(self) -> None:
        self._place.close()
