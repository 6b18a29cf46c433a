from django.conf import settings
from django.db import models

from p2p_replication.models import ReplicatedManager, ReplicatedModel


class Stamped(ReplicatedModel):
    created_on = models.DateField(auto_now_add=True)

    class Meta:
        abstract = True


class AuthorManager(ReplicatedManager):
    def get_by_natural_key(self, name):
        return self.get(name=name)


class Author(Stamped):
    name = models.CharField(max_length=50, unique=True)
    born = models.IntegerField(null=True)

    objects = AuthorManager()

    class Meta:
        ordering = ["-name"]

    def __str__(self):
        return self.name

    def natural_key(self):
        return (self.name,)


class Book(Stamped):
    title = models.CharField(max_length=50)
    author = models.ForeignKey(Author, on_delete=models.CASCADE)
    added_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)
    tags = models.ManyToManyField("Tag", blank=True)

    class Meta:
        db_table = "catalog.Books of 2026"

    def __str__(self):
        return self.title


class Tag(models.Model):
    """An ordinary model, that does not replicate."""

    name = models.CharField(max_length=50)

    def __str__(self):
        return self.name


class Classic(Book):
    class Meta:
        proxy = True


class Visible(ReplicatedManager):
    def get_queryset(self):
        return super().get_queryset().filter(is_hidden=False)


class Draft(ReplicatedModel):
    """Soft deletion: a manager that hides rows, also from Django itself."""

    text = models.TextField()
    is_hidden = models.BooleanField(default=False)

    objects = Visible()
    everything = models.Manager()

    class Meta:
        default_manager_name = "objects"

    def __str__(self):
        return self.text

    def delete(self, *args, **kwargs):
        self.is_hidden = True
        self.save()


class AbstractProduct(ReplicatedModel):
    code = models.CharField(max_length=20)

    class Meta:
        abstract = True

    def __str__(self):
        return self.code


class Product(AbstractProduct):
    class Meta:
        swappable = "CATALOG_PRODUCT_MODEL"


class SpecialProduct(AbstractProduct):
    weight = models.FloatField(default=0)


class Offer(ReplicatedModel):
    product = models.ForeignKey(settings.CATALOG_PRODUCT_MODEL, on_delete=models.CASCADE)

    def __str__(self):
        return str(self.pk)
