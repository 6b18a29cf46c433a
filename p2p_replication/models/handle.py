"""Declaring that a model replicates, and the handle on it. Only reads and writes rows; the worker does the rest."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from asgiref.sync import sync_to_async
from django.db import connection, models, transaction
from django.utils import timezone

from p2p_replication.conf import SETTING_NAME, app_settings
from p2p_replication.exceptions import ConfigurationError, NotInSync, WorkerNotRunning
from p2p_replication.models.callables import dotted_name
from p2p_replication.models.companions import companion_labels, end_declaration, settle_companions
from p2p_replication.models.doorbell import ring_doorbell
from p2p_replication.models.ledger import ChangeLogEntry, Stream
from p2p_replication.models.pool import Declaration, Peer, PeerProgress, PeerQuerySet, PeerState, Pool, PoolError
from p2p_replication.models.where import canonical_where, change_filter, filter_columns
from p2p_replication.registry import registry

#: A pool that was declared just now is taken by a running worker within this time.
LEASE_GRACE = datetime.timedelta(seconds=4)
#: RxDB's signaling server takes room names of this length; ours keeps to it.
TOPIC_LENGTH = (6, 99)


class PoolHandle:
    """One model's part in a pool.

    Attributes:
        pool: the pool's row.
        model: the model.
    """

    def __init__(self, pool: Pool, model: type[models.Model]) -> None:
        self.pool = pool
        self.model = model

    def __repr__(self) -> str:
        return f"<PoolHandle {self.model._meta.label} in {self.pool}>"

    @property
    def declaration(self) -> Declaration:
        return self.pool.declarations.get(model=self.model._meta.label)

    @property
    def peers(self) -> PeerQuerySet:
        """The pool's peers and their state, as rows."""
        # Not self.pool.peers: its peers would judge the worker by the lease that this handle once read.
        return Peer.objects.filter(pool=self.pool.pk).select_related("pool")

    @property
    def errors(self) -> models.QuerySet[PoolError]:
        """The pool's recent errors, newest first."""
        return self.pool.errors.all()

    def cancel(self) -> None:
        """End this model's part in the pool; the pool goes with its last model. Rows stay where they are."""
        with transaction.atomic():
            for declaration in self.pool.declarations.filter(model=self.model._meta.label):
                end_declaration(declaration)
            if not self.pool.declarations.exists():
                Pool.objects.filter(pk=self.pool.pk).update(cancelled_at=timezone.now())
        ring_doorbell()

    async def acancel(self) -> None:
        await sync_to_async(self.cancel)()

    def restart(self) -> None:
        """Let the worker close the pool's connections and open them anew."""
        self.pool.restart()

    def wait_in_sync(self, timeout: float = 30.0, *, peers: int = 1) -> None:
        """Wait until every local change committed before this call is acknowledged by at least ``peers`` peers,
        and everything those have announced is applied here.

        Args:
            timeout: seconds.

        Raises:
            ConfigurationError: inside an open transaction, whose changes nobody can have.
            WorkerNotRunning: no live worker serves the pool.
            NotInSync: the time is over; the text says what is missing.
        """
        if connection.in_atomic_block:
            raise ConfigurationError(
                "wait_in_sync() inside an open transaction would wait for ever, as its changes are not committed. "
                "Call it after the transaction."
            )
        deadline = time.monotonic() + timeout
        barrier = _Barrier(self)
        while (missing := barrier.missing(peers)) is not None:
            if time.monotonic() >= deadline:
                barrier.give_up(timeout, missing)
            time.sleep(0.05)

    async def await_in_sync(self, timeout: float = 30.0, *, peers: int = 1) -> None:
        """The async twin of ``wait_in_sync``."""
        deadline = time.monotonic() + timeout
        barrier = await sync_to_async(_Barrier)(self)
        while (missing := await sync_to_async(barrier.missing)(peers)) is not None:
            if time.monotonic() >= deadline:
                await sync_to_async(barrier.give_up)(timeout, missing)
            await asyncio.sleep(0.05)


class _Barrier:
    """The local changes committed so far, and who has acknowledged them."""

    def __init__(self, handle: PoolHandle) -> None:
        self.handle = handle
        last = ChangeLogEntry.objects.order_by("-id").values_list("id", flat=True).first()
        self.last_entry = last or 0
        self.label = handle.model._meta.label
        #: The own counters that peers must have, by model: the handle's, and what comes along with it.
        self.targets: dict[str, int] = {}

    def give_up(self, timeout: float, missing: str) -> NoReturn:
        """The time is over."""
        pool = Pool.objects.get(pk=self.handle.pool.pk)
        raise NotInSync(f"Not in sync after {timeout:g} s: {missing}") if pool.has_live_worker else _no_worker(pool)

    def missing(self, peers: int) -> str | None:
        """Say what is still missing, or None."""
        pool = Pool.objects.get(pk=self.handle.pool.pk)
        if pool.cancelled_at is not None:
            raise ConfigurationError(f"The pool {pool} is cancelled.")
        if not pool.has_live_worker:
            if pool.declarations.filter(created_at__gt=timezone.now() - LEASE_GRACE).exists():
                return "no worker has taken the pool yet."
            raise _no_worker(pool)
        if not self.targets:
            waiting = ChangeLogEntry.objects.filter(id__lte=self.last_entry).count()
            if waiting:
                return f"{waiting} local changes are not posted yet."
            labels = [self.label, *companion_labels(self.label)]
            vectors = dict(Stream.objects.filter(label__in=labels).values_list("label", "own_vector"))
            self.targets = {label: max(vectors.get(label, {}).values(), default=0) for label in labels}
        progress = defaultdict(list)
        for item in PeerProgress.objects.filter(
            declaration__pool=pool, declaration__model__in=self.targets, peer__state=PeerState.CONNECTED
        ).select_related("peer", "declaration"):
            progress[item.peer_id].append(item)
        # A peer may lack a companion: then it is behind in nothing that it could have.
        connected = [items for items in progress.values() if any(i.declaration.model == self.label for i in items)]
        behind = [[text for item in items if (text := self._behind(item))] for items in connected]
        if sum(not texts for texts in behind) >= peers:
            return None
        if len(connected) < peers:
            return f"{len(connected)} of {peers} peers are connected."
        return "; ".join(text for texts in behind for text in texts) + "."

    def _behind(self, progress: PeerProgress) -> str:
        """Say what a peer, or this replica, still lacks of one model; nothing if there is nothing."""
        declaration, peer = progress.declaration, progress.peer
        # A direction that this side has switched off has nothing to wait for.
        needed = self.targets[declaration.model] if declaration.push is not None else 0
        if progress.acknowledged < needed and not progress.gives:
            return f"{peer} takes no rows of {declaration.model}, by its pull=None"
        if progress.acknowledged < needed:
            return f"{peer} has acknowledged {progress.acknowledged} of {needed}"
        return "" if progress.complete else f"{progress.rows_behind or 'some'} rows of {peer} are not applied yet"


def _no_worker(pool: Pool) -> WorkerNotRunning:
    return WorkerNotRunning(f"No worker serves the pool {pool}. Start one with: python manage.py runp2psync")


def sync_p2p(
    model: type[models.Model],
    topic: str,
    *,
    account: str = "default",
    where: Mapping[str, Any] | None = None,
    pull: Mapping[str, Any] | None = {},
    push: Mapping[str, Any] | None = {},
    is_peer_valid: Callable[..., bool] | None = None,
    connection_handler: str = "default",
) -> PoolHandle:
    """Let a model's rows replicate with every replica that declares the same topic.

    Stores a declaration, which a worker (``manage.py runp2psync``) carries out, now or when it starts.
    Called again with the same model, account and topic it changes the declaration.

    Args:
        model: a ``ReplicatedModel`` or a registered model.
        topic: 6 to 99 characters; in the signaling server's default it is private to the account's user.
        account: the entry of ``P2P_REPLICATION["ACCOUNTS"]`` in whose name the worker joins.
        where: lookups over the model's own fields, ``{"region": "north", "stars__gte": 3}``: only rows that match all
            of them replicate. All members must give the same filter. Another one begins the pool anew.
        pull, push: ``{"batch_size": int, "modifier": function}``; None switches this direction off. A modifier is a
            module-level function of an installed app, ``row dict -> row dict, or None to refuse the row``.
        is_peer_valid: such a function, too; called with a peer's identity, refuses it by returning False or raising.
        connection_handler: the entry of ``P2P_REPLICATION["CONNECTION_HANDLERS"]`` to use.

    Raises:
        ConfigurationError: the text names the value and the remedy.
    """
    return declare_from_code(
        model,
        topic,
        source="call",
        account=account,
        where=where,
        pull=pull,
        push=push,
        is_peer_valid=is_peer_valid,
        connection_handler=connection_handler,
    )


def declare_from_code(
    model: type[models.Model],
    topic: str,
    *,
    source: str,
    account: str = "default",
    where: Mapping[str, Any] | None = None,
    pull: Mapping[str, Any] | None = {},
    push: Mapping[str, Any] | None = {},
    is_peer_valid: Callable[..., bool] | str | None = None,
    connection_handler: str = "default",
) -> PoolHandle:
    """Check and store a declaration, whose ``source`` is a call or the class that makes it at import.

    Raises ConfigurationError as ``sync_p2p`` does.
    """
    options = registry.for_model(model)
    check_pool_options(topic, account, pull, push, connection_handler)
    return declare(
        options.model,
        topic,
        account=account,
        where=canonical_where(options, where),
        pull=stored_direction("pull", pull),
        push=stored_direction("push", push),
        is_peer_valid=dotted_name("is_peer_valid", is_peer_valid) if is_peer_valid else "",
        connection_handler=connection_handler,
        source=source,
    )


def stored_direction(name: str, options: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a direction's options as the declaration has them."""
    if options is None:
        return None
    stored = {key: value for key, value in options.items() if value is not None}
    if "modifier" in stored:
        stored["modifier"] = dotted_name(f"{name}.modifier", stored["modifier"])
    return stored


async def async_p2p(model: type[models.Model], topic: str, **options: Any) -> PoolHandle:
    """The async twin of ``sync_p2p``."""
    return await sync_to_async(sync_p2p)(model, topic, **options)


def declare(
    model: type[models.Model],
    topic: str,
    *,
    account: str = "default",
    where: str = "",
    pull: dict[str, Any] | None,
    push: dict[str, Any] | None,
    is_peer_valid: str = "",
    connection_handler: str = "default",
    source: str = "call",
) -> PoolHandle:
    """Store the declaration (options are checked already; ``where`` is a filter's canonical text)."""
    with transaction.atomic():
        pool, _ = Pool.objects.get_or_create(
            account=account,
            topic=topic,
            defaults={"connection_handler": connection_handler, "is_peer_valid": is_peer_valid},
        )
        given = {"connection_handler": connection_handler, "is_peer_valid": is_peer_valid}
        others = pool.declarations.exclude(model=model._meta.label).exclude(comes_with=model._meta.label)
        for name, value in given.items():
            if getattr(pool, name) == value:
                continue
            if others.exists():
                raise ConfigurationError(
                    f"{name}={value!r} for {model._meta.label}, but the pool {pool} has {getattr(pool, name)!r} from "
                    f"{others[0].model}. The option belongs to the pool: give the same one to all its models."
                )
            setattr(pool, name, value)
        pool.cancelled_at = None
        pool.save(update_fields=["connection_handler", "is_peer_valid", "cancelled_at"])
        declaration, new = Declaration.objects.get_or_create(
            pool=pool,
            model=model._meta.label,
            defaults={"pull": pull, "push": push, "source": source, **filter_columns(model._meta.label, where)},
        )
        stored = (declaration.pull, declaration.push, declaration.source, declaration.comes_with)
        if not new and stored != (pull, push, source, ""):
            if (declaration.pull or {}).get("modifier") != (pull or {}).get("modifier"):
                # What the one before has refused is to be asked for again.
                declaration.cursors.all().delete()
                declaration.vector = {}
            Declaration.objects.filter(pk=declaration.pk).update(
                pull=pull, push=push, source=source, vector=declaration.vector, comes_with=""
            )
        if not new and declaration.filter_text != where:
            change_filter(declaration, where)
        settle_companions(pool)
    ring_doorbell()
    return PoolHandle(pool, model)


def check_pool_options(
    topic: str,
    account: str,
    pull: Mapping[str, Any] | None,
    push: Mapping[str, Any] | None,
    connection_handler: str,
) -> None:
    if not isinstance(topic, str) or not TOPIC_LENGTH[0] <= len(topic) <= TOPIC_LENGTH[1]:
        raise ConfigurationError(
            f"topic={topic!r}: a topic is a string of {TOPIC_LENGTH[0]} to {TOPIC_LENGTH[1]} characters."
        )
    if account not in app_settings.ACCOUNTS:
        raise ConfigurationError(
            f"account={account!r} is not in {SETTING_NAME}['ACCOUNTS'], which has: {', '.join(app_settings.ACCOUNTS)}."
        )
    if connection_handler not in app_settings.CONNECTION_HANDLERS:
        raise ConfigurationError(
            f"connection_handler={connection_handler!r} is not in {SETTING_NAME}['CONNECTION_HANDLERS'], "
            f"which has: {', '.join(app_settings.CONNECTION_HANDLERS)}."
        )
    if pull is None and push is None:
        raise ConfigurationError("pull=None and push=None: nothing would replicate. Leave one out, or use cancel().")
    for name, options in (("pull", pull), ("push", push)):
        if options is None:
            continue
        if not isinstance(options, Mapping):
            raise ConfigurationError(f"{name}={options!r} must be a dict, or None to switch this direction off.")
        unknown = set(options) - {"batch_size", "modifier"}
        if unknown:
            raise ConfigurationError(
                f"{name}: unknown option {', '.join(sorted(unknown))}; there is: batch_size, modifier."
            )
        if options.get("modifier") is not None:
            dotted_name(f"{name}.modifier", options["modifier"])
        size = options.get("batch_size", 1)
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= 10_000:
            raise ConfigurationError(f"{name}: batch_size={size!r} must be an integer from 1 to 10000.")
