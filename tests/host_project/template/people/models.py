from django.contrib.auth.models import AbstractUser, UserManager

from p2p_replication.models import ReplicatedModel


class Person(ReplicatedModel, AbstractUser):
    """The project's users, who replicate."""

    objects = UserManager()
