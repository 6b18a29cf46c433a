from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, BaseUserManager
from django.db import models
from morango.models.core import SyncableModel


class User(AbstractBaseUser):
    """Whose password a replica gives to get its certificate."""

    USERNAME_FIELD = "username"
    username = models.CharField(max_length=30, unique=True)
    is_superuser = models.BooleanField(default=False)
    objects = BaseUserManager()

    def has_morango_certificate_scope_permission(self, scope_definition_id, scope_params):
        return self.is_superuser


class Item(SyncableModel):
    morango_profile = "bench"
    morango_model_name = "item"
    title = models.CharField(max_length=100)
    body = models.CharField(max_length=100)
    done = models.BooleanField(default=False)
    rank = models.IntegerField(default=0)
    updated = models.DateTimeField()

    def calculate_source_id(self):
        return None

    def calculate_partition(self):
        return settings.BENCH_DATASET
