"""Who may join which room, and what a project's own rule can do."""

from __future__ import annotations

from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group

from p2p_replication.exceptions import ConfigurationError
from p2p_replication.signaling.rooms import group_rooms, load_authorizer, room_id, user_rooms
from tests.signaling.conftest import Connect


def use(settings: Any, authorizer: str, **limits: Any) -> None:
    settings.P2P_REPLICATION = settings.P2P_REPLICATION | {
        "ROOM_AUTHORIZER": f"{authorizer}",
        "SIGNALING_LIMITS": limits,
    }


GROUP_ROOMS = "p2p_replication.signaling.rooms.group_rooms"


def one_room_for_all(user: Any, topic: str) -> str | None:
    return "everyone"


def broken(user: Any, topic: str) -> Any:
    return 17


@pytest.fixture
def members(transactional_db: None) -> dict[str, Any]:
    users = {name: get_user_model().objects.create(username=name) for name in ("ana", "ben", "eve")}
    group = Group.objects.create(name="field-team")
    group.user_set.add(users["ana"], users["ben"])
    return users


def test_user_rooms_are_private(members: dict[str, Any]) -> None:
    assert user_rooms(members["ana"], "team") != user_rooms(members["ben"], "team")
    assert user_rooms(members["ana"], "team") != user_rooms(members["ana"], "team2")


def test_group_rooms_are_for_members(members: dict[str, Any]) -> None:
    ana, ben, eve = members.values()
    assert group_rooms(ana, "group:field-team") == group_rooms(ben, "group:field-team")
    assert group_rooms(ana, "group:field-team:north") == group_rooms(ben, "group:field-team:north")
    assert group_rooms(ana, "group:field-team:north") != group_rooms(ana, "group:field-team")
    assert group_rooms(eve, "group:field-team") is None
    assert group_rooms(ana, "group:other") is None
    assert group_rooms(ana, "field-team") is None
    assert group_rooms(ana, "group:") is None
    eve.is_superuser = True
    assert group_rooms(eve, "group:field-team") is None


def test_a_group_named_like_anothers_topic_shares_no_room(members: dict[str, Any]) -> None:
    Group.objects.create(name="field-team:north").user_set.add(members["eve"])
    assert group_rooms(members["eve"], "group:field-team:north") is None


def test_room_ids_are_hashes_of_the_key(members: dict[str, Any]) -> None:
    room = room_id(members["ana"], "team")
    assert room is not None
    assert len(room) == 64
    assert room == room_id(members["ana"], "team")


def test_an_authorizer_that_cannot_work_is_named(settings: Any, members: dict[str, Any]) -> None:
    use(settings, "no.such.module.rooms")
    with pytest.raises(ConfigurationError, match=r"no\.such\.module"):
        load_authorizer()
    use(settings, f"{__name__}.pytestmark_missing")
    with pytest.raises(ConfigurationError, match="cannot be imported"):
        load_authorizer()
    use(settings, f"{__name__}.broken")
    with pytest.raises(ConfigurationError, match="17"):
        room_id(members["ana"], "team")


async def test_members_of_a_group_meet_and_others_are_refused(
    connect: Connect, members: dict[str, Any], settings: Any
) -> None:
    use(settings, GROUP_ROOMS)
    ana, ben, eve = await connect("ana"), await connect("ben"), await connect("eve")
    await ana.join("group:field-team")
    await ben.join("group:field-team")
    await ana.until_members(ana, ben)
    await eve.send({"type": "join", "room": "group:field-team"})
    error = await eve.receive()
    assert (error["type"], error["code"], error["room"]) == ("error", 4403, "group:field-team")
    await ana.is_alive(ben, "group:field-team")


async def test_who_leaves_the_group_leaves_its_rooms(connect: Connect, members: dict[str, Any], settings: Any) -> None:
    use(settings, GROUP_ROOMS, check_interval=0.1)
    ana, ben = await connect("ana"), await connect("ben")
    await ana.join("group:field-team")
    await ben.join("group:field-team")
    await ana.until_members(ana, ben)
    await database_sync_to_async(lambda: members["ben"].groups.clear())()
    error = await ben.receive("error")
    assert (error["code"], error["room"]) == (4403, "group:field-team")
    await ana.until_members(ana)
    await ana.signal("group:field-team", ben.peer_id, {})
    assert (await ana.receive("error"))["code"] == 4404


async def test_a_project_may_let_users_meet_under_topics_of_their_own(connect: Connect, settings: Any) -> None:
    use(settings, f"{__name__}.one_room_for_all")
    ana, ben = await connect("ana"), await connect("ben")
    await ana.join("mine")
    await ben.join("yours")
    await ana.signal("mine", ben.peer_id, "hello")
    signal = await ben.receive("signal")
    assert (signal["room"], signal["data"]) == ("yours", "hello")
    await ben.send({"type": "join", "room": "another name of the same"})
    assert (await ben.receive("error"))["code"] == 4403


async def test_an_authorizer_that_fails_closes_the_socket_and_hurts_nobody_else(
    connect: Connect, settings: Any
) -> None:
    ana, other = await connect("ana"), await connect("ana")
    await ana.join("team")
    await other.join("team")
    use(settings, f"{__name__}.broken")
    bad = await connect("ben")
    await bad.send({"type": "join", "room": "team"})
    assert (await bad.closed())[1] == 1011
    await ana.is_alive(other, "team")
