"""What the database says should run: pools with their declarations, turned into what a live pool is told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.utils.module_loading import import_string

from p2p_replication.conf import app_settings
from p2p_replication.exceptions import ConfigurationError
from p2p_replication.models.callables import resolve
from p2p_replication.models.companions import end_declaration, settle_companions
from p2p_replication.models.handle import declare_from_code
from p2p_replication.models.pool import Declaration, Pool
from p2p_replication.pool.live_pool import PoolSetup
from p2p_replication.pool.modifiers import Modifier
from p2p_replication.pool.part import Part
from p2p_replication.registry import registry
from p2p_replication.storage.changes import PUSH_ROWS
from p2p_replication.storage.replica_database import ReplicaDatabase
from p2p_replication.storage.subsets import subset_for
from p2p_replication.transport.base import ConnectionHandler, HandlerConfig

logger = logging.getLogger("p2p_replication.worker")


@dataclass(frozen=True)
class WantedPool:
    """A pool that should run. ``fingerprint`` changes with anything that needs a restart."""

    id: int
    fingerprint: str
    setup: PoolSetup


def declare_registered_pools() -> None:
    """Store the declarations that ``p2p.py`` modules and inner ``Replication`` classes make, drop those they made.

    A pool that somebody has cancelled stays so. Raises ConfigurationError for options that can't be.
    """
    declared: set[tuple[str, str, str]] = set()
    for options in registry:
        for pool in options.pools:
            account, topic = pool.get("account", "default"), str(pool.get("topic", ""))
            declared.add((account, topic, options.label))
            if Pool.objects.filter(account=account, topic=topic).exclude(cancelled_at=None).exists():
                logger.info("the pool %s is cancelled: %s is not declared in it", topic, options.label)
                continue
            try:
                declare_from_code(options.model, source=options.source, **{"topic": "", **pool})
            except (ConfigurationError, TypeError) as error:
                raise ConfigurationError(
                    f"{options.source} declares a pool for {options.label} that can't be: {error}"
                ) from error
    for declaration in Declaration.objects.filter(comes_with="").exclude(source="call").select_related("pool"):
        if (declaration.pool.account, declaration.pool.topic, declaration.model) not in declared:
            logger.info("%s is declared no more by %s", declaration, declaration.source)
            end_declaration(declaration)
    # The code may have given a model a many-to-many field, or a parent, since it was declared.
    for stored in Pool.objects.active():
        settle_companions(stored)


#: What decides how a pool runs; the rest is what it has come to.
_OF_POOLS = ("id", "topic", "account", "connection_handler", "is_peer_valid", "generation", "cancelled_at")
_OF_DECLARATIONS = ("id", "pool_id", "model", "where", "pull", "push", "filter_digest")


def stored_pools(database: ReplicaDatabase) -> list[tuple[Any, ...]]:
    """Return what the database says of pools and declarations, as it lies there, for comparison only.

    Asked after each commit, for months: ``wanted_pools`` takes fifty times as long. Raises StaleReplica as
    ``check_identity`` does.
    """
    database.check_identity()
    found: list[tuple[Any, ...]] = []
    with database.connection.cursor() as cursor:
        for model, names in ((Pool, _OF_POOLS), (Declaration, _OF_DECLARATIONS)):
            columns = ", ".join(map(database.connection.ops.quote_name, names))
            cursor.execute(f"SELECT {columns} FROM {model._meta.db_table} ORDER BY id")
            found += [(model.__name__, *record) for record in cursor.fetchall()]
    return found


def wanted_pools(database: ReplicaDatabase) -> tuple[list[WantedPool], list[tuple[int, str]]]:
    """Return the pools that should run, and ``(pool, error)`` for those that can't."""
    wanted, failed = [], []
    for pool in Pool.objects.active().prefetch_related("declarations"):
        try:
            setup, fingerprint = _setup(pool, database)
        except (ConfigurationError, ImportError) as error:
            failed.append((pool.pk, str(error)))
        else:
            if setup.parts:
                wanted.append(WantedPool(pool.pk, fingerprint, setup))
    return wanted, failed


def _setup(pool: Pool, database: ReplicaDatabase) -> tuple[PoolSetup, str]:
    parts: dict[str, Part] = {}
    for declaration in pool.declarations.all():
        if declaration.model not in database.streams:
            raise ConfigurationError(
                f"{declaration.model} is declared in the pool {pool} but does not replicate in this project (any "
                "more): cancel it in the admin, or restore the model. If its migrations have not all run: manage.py "
                "migrate."
            )
        parts[declaration.model] = part_of(declaration, database)
    settings = app_settings.current()
    setup = PoolSetup(
        id=pool.pk,
        topic=pool.topic,
        parts=parts,
        make_handler=_handler_maker(pool, database),
        is_peer_valid=resolve(pool.is_peer_valid) if pool.is_peer_valid else None,
        name=_shown_name(),
        # A link at rest must have said something before it is given up, whatever was set.
        heartbeat=max(min(settings.HEARTBEAT_INTERVAL, settings.PEER_TIMEOUT / 2.2), 0.1),
        timeout=settings.PEER_TIMEOUT,
        max_clock_skew=settings.MAX_CLOCK_SKEW,
        # A worker looks at its leases every third of their time.
        copy_grace=settings.LEASE_TTL / 3 + 2.5,
    )
    options = sorted((d.model, d.pk, repr(d.pull), repr(d.push), d.filter_text) for d in pool.declarations.all())
    return setup, repr((pool.generation, pool.connection_handler, pool.is_peer_valid, options))


def part_of(declaration: Declaration, database: ReplicaDatabase) -> Part:
    """Return a declaration as a pool runs it. Raises ConfigurationError if a modifier can't be imported."""
    pull, push = declaration.pull or {}, declaration.push or {}

    def modifier(option: str, path: str | None) -> Modifier | None:
        return Modifier(option, resolve(path)) if path else None

    stream = database.streams[declaration.model]
    return Part(
        database,
        stream,
        declaration.pk,
        pull.get("batch_size", 0),
        push.get("batch_size", PUSH_ROWS),
        subset_for(database, stream, declaration.filter_text),
        declaration.pull is not None,
        declaration.push is not None,
        modifier("pull.modifier", pull.get("modifier")),
        modifier("push.modifier", push.get("modifier")),
    )


def _handler_maker(pool: Pool, database: ReplicaDatabase) -> Callable[[Callable[[str], None]], ConnectionHandler]:
    settings = app_settings.current()
    backend = settings.CONNECTION_HANDLERS.get(pool.connection_handler)
    if backend is None:
        raise ConfigurationError(
            f"The pool {pool} wants the connection handler {pool.connection_handler!r}, which is not in "
            "P2P_REPLICATION['CONNECTION_HANDLERS']."
        )
    account = settings.ACCOUNTS.get(pool.account)
    if account is None:
        raise ConfigurationError(
            f"The pool {pool} wants the account {pool.account!r}, which is not in P2P_REPLICATION['ACCOUNTS']."
        )
    handler_class: Any = import_string(backend["BACKEND"])

    def make(report: Callable[[str], None]) -> ConnectionHandler:
        config = HandlerConfig(
            topic=pool.topic,
            instance=f"{database.replica_id}:{database.start}",
            name=_shown_name(),
            account={**account, "TOKEN": token_of(account)},
            ice_servers=settings.ICE_SERVERS,
            options=backend.get("OPTIONS", {}),
            report=report,
        )
        handler: ConnectionHandler = handler_class(config)
        return handler

    return make


def token_of(account: dict[str, Any]) -> Any:
    """Return the account's token, or the callable that fetches it (a dotted path: tokens have no dots)."""
    token = account.get("TOKEN")
    return import_string(token) if isinstance(token, str) and "." in token else token


def _shown_name() -> str:
    """Return the replica's name as others take it: printable and not too long."""
    return "".join(c for c in str(app_settings.NAME) if c.isprintable())[:200]
