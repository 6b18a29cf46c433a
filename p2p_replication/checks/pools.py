"""Checks of the pools that ``p2p.py`` modules and inner ``Replication`` classes declare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.core.checks import CheckMessage, Error, Warning, register

from p2p_replication.checks.settings import TAG, WEBRTC, settings_are_sound
from p2p_replication.conf import SETTING_NAME, app_settings
from p2p_replication.exceptions import ConfigurationError
from p2p_replication.models.callables import resolve
from p2p_replication.models.handle import check_pool_options
from p2p_replication.models.where import canonical_where
from p2p_replication.registry import Options, registry

#: What ``pools = [{...}]`` may say of a pool.
POOL_KEYS = {"topic", "account", "where", "pull", "push", "connection_handler", "is_peer_valid"}


@register(TAG)
def check_declared_pools(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Check them as ``sync_p2p()`` does: the worker that meets such a pool could only stop."""
    if not settings_are_sound():
        return []
    found: list[CheckMessage] = []
    accounts: dict[str, type] = {}
    options_of: dict[tuple[str, str], tuple[tuple[str, str], str]] = {}
    for options in registry:
        for pool in options.pools:
            problem = _problem(options, pool)
            if problem is None:
                account, handler = pool.get("account", "default"), pool.get("connection_handler", "default")
                shared = (handler, pool.get("is_peer_valid", ""))
                first, label = options_of.setdefault((account, pool["topic"]), (shared, options.label))
                if first != shared:
                    problem = (
                        f"{label} declares the same pool with another connection_handler or is_peer_valid; they "
                        "belong to the pool and must be the same for all its models."
                    )
                elif app_settings.CONNECTION_HANDLERS[handler]["BACKEND"] == WEBRTC:
                    accounts.setdefault(account, options.model)
            if problem is not None:
                found.append(_error(options, pool, problem))
    return [*found, *_without_signaling(accounts)]


def _problem(options: Options, pool: Mapping[str, Any]) -> str | None:
    unknown = pool.keys() - POOL_KEYS
    if unknown:
        return f"unknown option {', '.join(sorted(unknown))}; there is: {', '.join(sorted(POOL_KEYS))}."
    if "topic" not in pool:
        return "it names no topic."
    try:
        check_pool_options(
            pool["topic"],
            pool.get("account", "default"),
            pool.get("pull", {}),
            pool.get("push", {}),
            pool.get("connection_handler", "default"),
        )
        canonical_where(options, pool.get("where"))
        validator = pool.get("is_peer_valid", "")
        if not isinstance(validator, str):
            return f"is_peer_valid={validator!r} must be the dotted path of a function."
        if validator:
            resolve(validator)
    except ConfigurationError as error:
        return str(error)
    return None


def _error(options: Options, pool: Mapping[str, Any], problem: str) -> Error:
    return Error(
        f"The pool {pool.get('topic')!r} can't work: {problem}",
        hint=f'Correct {options.source}.pools: a list of topics, or of dict(topic="...", account="...").',
        obj=options.model,
        id="p2p_replication.E005",
    )


def _without_signaling(accounts: Mapping[str, type]) -> Iterator[CheckMessage]:
    for account, model in accounts.items():
        if not app_settings.ACCOUNTS[account].get("SIGNALING_URL"):
            yield Warning(
                f"{SETTING_NAME}['ACCOUNTS'][{account!r}] has no SIGNALING_URL, so its pools find no peers.",
                hint=f'Set {SETTING_NAME} = {{"ACCOUNTS": {{{account!r}: {{"SIGNALING_URL": '
                '"wss://your.host/p2p/signaling/", "TOKEN": "..."}}}; manage.py p2p token create makes a token.',
                obj=model,
                id="p2p_replication.W001",
            )
