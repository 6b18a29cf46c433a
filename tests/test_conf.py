"""Settings are read when they are used, and anew when a test overrides them."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from p2p_replication.conf import AppSettings, app_settings, known_keys, unknown_keys


def test_defaults_hold_where_the_project_says_nothing() -> None:
    with override_settings(P2P_REPLICATION={}):
        assert app_settings.current() == AppSettings()
        assert app_settings.LEASE_TTL == 10.0


def ttl() -> float:
    return float(app_settings.LEASE_TTL)


def test_override_settings_counts_at_once_and_ends_with_the_block() -> None:
    default = AppSettings().LEASE_TTL
    with override_settings(P2P_REPLICATION={"LEASE_TTL": 3.5}):
        assert app_settings.LEASE_TTL == 3.5
        with override_settings(P2P_REPLICATION={"NAME": "node"}):
            assert app_settings.NAME == "node"
            assert ttl() == default
        assert app_settings.LEASE_TTL == 3.5
    assert ttl() == default


def test_unknown_keys_are_named_and_do_not_count() -> None:
    with override_settings(P2P_REPLICATION={"LEASE_TTL": 3.5, "LEASES": 1, "A": 2}):
        assert unknown_keys() == ["A", "LEASES"]
        assert app_settings.LEASE_TTL == 3.5
        with pytest.raises(AttributeError):
            app_settings.LEASES  # noqa: B018


def test_no_dict_is_refused() -> None:
    with override_settings(P2P_REPLICATION=["x"]):
        assert unknown_keys() == []
        with pytest.raises(ImproperlyConfigured, match="P2P_REPLICATION must be a dict, not list"):
            app_settings.current()


def test_every_default_is_of_its_own() -> None:
    """A changed default of one reading must not be the next one's."""
    AppSettings().ACCOUNTS["other"] = {}
    assert AppSettings().ACCOUNTS == {"default": {}}
    assert "ACCOUNTS" in known_keys()
