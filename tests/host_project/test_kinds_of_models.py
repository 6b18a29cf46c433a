"""What models a project may have: proxies, tables it doesn't manage, swapped ones, managers that hide rows."""

from __future__ import annotations

from tests.host_project.project import HostProject


def test_every_kind_of_model_replicates_its_table(project: HostProject) -> None:
    project.script("""
        some_rows()
        assert set(LABELS) == {
            "folk.Person", "catalog.Author", "catalog.Book", "catalog.Draft", "catalog.SpecialProduct",
            "catalog.Offer", "legacy.Invoice"}
        classic = Classic.objects.create(title="Old", author=Author.objects.get(name="Ana"))
        Classic.objects.filter(title="One").update(title="Two")
        Classic.objects.get(title="Two").save()
        one, two = replica(), replica("peer")
        meet(one, two, labels=LABELS)
        assert rows("peer") == rows("default")
        assert set(Book.objects.using("peer").values_list("title", flat=True)) == {"Old", "Two"}
        assert Draft.everything.using("peer").get().is_hidden and not Draft.objects.using("peer").exists()
        BigInvoice.objects.using("peer").get(total=5000)

        # A user who logs in there, a draft that is deleted softly and one that is shown again, a swapped-in model.
        from django.contrib.auth import authenticate
        person = Person.objects.using("peer").get(username="ana")
        assert person.check_password("secret") and authenticate(username="ana", password="secret") == person
        person.email = "ana@example.org"
        person.save()
        Draft.everything.using("peer").update(is_hidden=False)
        Draft.objects.create(text="y").delete()
        Invoice.objects.using("peer").update(total=6000)
        Classic.objects.get(title="Old").delete()
        SpecialProduct.objects.using("peer").all().delete()
        meet(one, two, labels=LABELS)
        assert rows("peer") == rows("default")
        assert Person.objects.get().email == "ana@example.org"
        assert dict(Draft.everything.values_list("text", "is_hidden")) == {"x": False, "y": True}
        assert Invoice.objects.get().total == 6000
        assert Book.objects.get().title == "Two" and not Offer.objects.exists()
    """)


def test_a_pool_of_a_proxy_is_the_one_of_its_table(project: HostProject) -> None:
    project.script("""
        import p2p_replication
        pool = p2p_replication.sync_p2p(Classic, "field-team")
        assert pool.model is Book and Declaration.objects.get().model == "catalog.Book"
        assert Classic.objects.sync_p2p("field-team").declaration == pool.declaration
        assert Person.objects.using("default") is not None
        pool = p2p_replication.sync_p2p(Person, "field-team")
        assert set(pool.pool.declarations.values_list("model", flat=True)) == {"catalog.Book", "folk.Person"}
    """)


def test_what_has_no_table_of_its_own_is_refused_with_the_remedy(project: HostProject) -> None:
    """By registration: proxies, abstract and swapped-out models. By checks: what can be seen in the models only."""
    project.script("""
        from p2p_replication.exceptions import ConfigurationError
        from p2p_replication.registry import Registry

        def refusal(model):
            try:
                Registry().register(model)
            except ConfigurationError as error:
                return str(error)

        assert "register Book, whose table" in refusal(Classic)
        assert "inherit from it" in refusal(AbstractProduct)
        assert "catalog.SpecialProduct" in refusal(Product) and "CATALOG_PRODUCT_MODEL" in refusal(Product)
        assert refusal(Tag) is None
    """)
    (project.folder / "catalog" / "p2p.py").write_text("""
from catalog.models import Tag
from legacy.models import BigInvoice
from p2p_replication import ModelReplication, register

register(Tag, BigInvoice)(ModelReplication)
""")
    models = project.folder / "catalog" / "models.py"
    models.write_text(
        models.read_text()
        + """

class Loud(Author):
    class Meta:
        proxy = True

    class Replication:
        pools = ["field-team"]


class Plain(models.Model):
    id = models.UUIDField(primary_key=True)


class Special(Plain):
    is_p2p_replicated = True


class LongDraft(Draft):
    pages = models.IntegerField(default=1)


class Archived(ReplicatedModel):
    class Meta:
        managed = False
        db_table = 'archive"."things'


class Follower(ReplicatedModel):
    session = models.ForeignKey("sessions.Session", on_delete=models.CASCADE)
"""
    )
    project.script("""
        from django.core.checks import run_checks
        found = {(m.id.removeprefix("p2p_replication."), m.obj if isinstance(m.obj, type) else m.obj.model)
                 for m in run_checks(databases=["default"]) if m.id.startswith("p2p") and not m.is_silenced()
                 and m.obj is not None}
        assert all(m.hint for m in run_checks() if m.id.startswith("p2p"))
        assert found == {("E018", Loud), ("E011", Special), ("E017", Archived), ("E013", Follower), ("E010", Tag),
                         ("W022", BigInvoice)}, found
    """)
