"""What holds for every table of replication's own."""

from __future__ import annotations

from django.apps import apps

from p2p_replication.models import DeviceToken
from p2p_replication.models.own_tables import PrimaryQuerySet, ReplicaState


def test_every_table_is_of_this_database_only_and_read_where_it_is_written() -> None:
    for model in apps.get_app_config("p2p_replication").get_models():
        assert issubclass(model, ReplicaState) or model is DeviceToken, model
        assert isinstance(model._default_manager.get_queryset(), PrimaryQuerySet), model
        assert model is DeviceToken or isinstance(model._base_manager.get_queryset(), PrimaryQuerySet), model
