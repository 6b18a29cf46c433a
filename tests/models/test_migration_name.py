"""The name that stands in the migrations of every project for ever."""

from django.db.migrations.writer import MigrationWriter

from tests.testapp.models import Note


def test_the_key_default_is_written_as_p2p_replication_models_uuid7() -> None:
    text, imports = MigrationWriter.serialize(Note._meta.pk.clone())
    assert "default=p2p_replication.models.uuid7" in text
    assert "import p2p_replication.models" in imports
