"""What every connection handler has to do: one suite for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from p2p_replication.exceptions import ConnectionClosed
from p2p_replication.transport.base import MAX_FRAME_BYTES, Connection
from tests.transport.members import TIMEOUT, Members, ended, until

#: What ``send`` lets through before it waits, with one frame of margin.
MOST_BUFFERED_BYTES = 256 * 1024 + MAX_FRAME_BYTES

DropSignaling = Callable[[str], Awaitable[None]]


async def received(connection: Connection, count: int) -> list[bytes]:
    async with asyncio.timeout(TIMEOUT):
        return [await connection.receive() for _ in range(count)]


class HandlerAcceptance:
    """Subclasses bring the fixtures ``members`` (a Members) and ``drop_signaling`` (a DropSignaling)."""

    async def test_two_members_meet_and_talk(self, members: Members) -> None:
        a, b = await members.pair()
        assert (a.remote.instance, b.remote.instance) == ("b:1", "a:1")
        assert (a.remote.name, b.remote.name) == ("b", "a")
        await a.send(b"from a")
        await b.send(b"from b")
        assert await received(b, 1) == [b"from a"]
        assert await received(a, 1) == [b"from b"]
        assert (a.sent_bytes, a.received_bytes) == (6, 6)

    async def test_three_members_are_all_connected_once(self, members: Members) -> None:
        names = ["a:1", "b:1", "c:1"]
        running = {name: members.start(name) for name in names}
        for name, member in running.items():
            for other in set(names) - {name}:
                connection = await member.connection_to(other)
                await connection.send(f"{name} to {other}".encode())
        for name, member in running.items():
            for other in set(names) - {name}:
                connection = await member.connection_to(other)
                assert await received(connection, 1) == [f"{other} to {name}".encode()]
        assert [len(member.connections) for member in running.values()] == [2, 2, 2]

    async def test_other_topics_do_not_meet(self, members: Members) -> None:
        a, b = members.start("a:1"), members.start("b:1")
        stranger = members.start("c:1", topic="another-team")
        await a.connection_to("b:1")
        await b.connection_to("a:1")
        assert stranger.connections == []

    async def test_frames_of_all_sizes_arrive_whole_and_in_order(self, members: Members) -> None:
        a, b = await members.pair()
        frames = [bytes([n % 256]) * size for n, size in enumerate([0, 1, 1200, 16_384, MAX_FRAME_BYTES] * 4)]
        for frame in frames:
            await a.send(frame)
        assert await received(b, len(frames)) == frames

    async def test_a_frame_above_the_limit_is_refused_at_once(self, members: Members) -> None:
        a, b = await members.pair()
        with pytest.raises(ValueError, match="65537"):
            await a.send(bytes(MAX_FRAME_BYTES + 1))
        await a.send(b"goes on")
        assert await received(b, 1) == [b"goes on"]

    async def test_two_thousand_small_frames_arrive_in_order(self, members: Members) -> None:
        a, b = await members.pair()
        frames = [b"%d" % n for n in range(2000)]

        async def send_all() -> None:
            for frame in frames:
                await a.send(frame)

        sending = asyncio.create_task(send_all())
        assert await received(b, len(frames)) == frames
        await sending

    async def test_several_senders_at_once_keep_their_order(self, members: Members) -> None:
        a, b = await members.pair()

        async def send_all(sender: int) -> None:
            for n in range(30):
                await a.send(bytes([sender, n]) * 5000)

        async with asyncio.TaskGroup() as tasks:
            for sender in range(4):
                tasks.create_task(send_all(sender))
            arriving = tasks.create_task(received(b, 120))
        by_sender: dict[int, list[int]] = {}
        for frame in arriving.result():
            by_sender.setdefault(frame[0], []).append(frame[1])
        assert by_sender == {sender: list(range(30)) for sender in range(4)}

    async def test_send_waits_while_much_is_on_its_way(self, members: Members) -> None:
        """However fast a sender is, what is buffered stays bounded."""
        a, b = await members.pair()
        most = 0

        async def send_all() -> None:
            nonlocal most
            for _ in range(64):
                await a.send(bytes(MAX_FRAME_BYTES))
                most = max(most, a.buffered_bytes)

        sending = asyncio.create_task(send_all())
        frames = await received(b, 64)
        await sending
        assert sum(map(len, frames)) == 64 * MAX_FRAME_BYTES
        assert most <= MOST_BUFFERED_BYTES
        await until(lambda: a.buffered_bytes == 0)

    async def test_close_is_seen_by_the_other_side_after_all_frames(self, members: Members) -> None:
        a, b = await members.pair()
        frames = [bytes([n]) * 50_000 for n in range(10)]
        for frame in frames:
            await a.send(frame)
        await a.send(b"bye")
        await a.close("done")
        assert not a.is_open
        assert await received(b, 11) == [*frames, b"bye"]
        await ended(b)
        assert not b.is_open
        for end in (a, b):
            with pytest.raises(ConnectionClosed):
                await end.send(b"too late")
            with pytest.raises(ConnectionClosed):
                await end.receive()

    async def test_closing_twice_and_from_both_sides_is_harmless(self, members: Members) -> None:
        a, b = await members.pair()
        await asyncio.gather(a.close("one"), a.close("two"), b.close("three"))
        await a.close()
        assert await ended(a) == "one"

    async def test_closing_ends_a_waiting_receiver_and_a_waiting_sender(self, members: Members) -> None:
        a, _ = await members.pair()
        receiving = asyncio.create_task(a.receive())

        async def send_for_ever() -> None:
            while True:
                await a.send(bytes(1000))

        sending = asyncio.create_task(send_for_ever())
        await asyncio.sleep(0.05)
        await a.close("enough")
        for task in (receiving, sending):
            with pytest.raises(ConnectionClosed, match="enough"):
                await asyncio.wait_for(task, TIMEOUT)

    async def test_a_closed_connection_is_opened_again_while_both_are_there(self, members: Members) -> None:
        a, b = members.start("a:1"), members.start("b:1")
        first = await a.connection_to("b:1")
        await (await b.connection_to("a:1")).close("try again")
        second = await a.connection_to("b:1", beyond=first)
        other_end = await b.connection_to("a:1")
        await second.send(b"again")
        assert await received(other_end, 1) == [b"again"]
        assert (len(a.open), len(b.open)) == (1, 1)

    async def test_a_lost_signaling_socket_leaves_one_connection(
        self, members: Members, drop_signaling: DropSignaling
    ) -> None:
        """RxDB opens one more connection to the same replica each time."""
        a, b = members.start("a:1"), members.start("b:1")
        before = await a.connection_to("b:1"), await b.connection_to("a:1")
        for instance in ("a:1", "b:1", "a:1"):
            await drop_signaling(instance)
            c = members.start("c:1")  # whoever joins now finds both
            await c.connection_to("a:1")
            await c.connection_to("b:1")
            await c.stop()
        await before[0].send(b"still there")
        assert await received(before[1], 1) == [b"still there"]
        assert [connection for connection in a.connections if connection.remote.instance == "b:1"] == [before[0]]
        assert [connection for connection in b.connections if connection.remote.instance == "a:1"] == [before[1]]

    async def test_a_peer_leaves_and_comes_back_as_a_new_start(self, members: Members) -> None:
        a, b = members.start("a:1"), members.start("b:1")
        lost = await a.connection_to("b:1")
        await b.stop()
        await ended(lost)
        again = members.start("b:2")
        connection = await a.connection_to("b:2")
        await connection.send(b"hello again")
        assert await received(await again.connection_to("a:1"), 1) == [b"hello again"]
        assert len(a.open) == 1

    async def test_a_new_start_replaces_one_that_did_not_say_goodbye(self, members: Members) -> None:
        a, _ = members.start("a:1"), members.start("b:1")
        old = await a.connection_to("b:1")
        members.start("b:2")
        await a.connection_to("b:2")
        await ended(old)
        assert [connection.remote.instance for connection in a.open] == ["b:2"]

    async def test_two_living_starts_of_one_replica_meet_each_other(self, members: Members) -> None:
        """One of them is a copy, and only between themselves they can find that out."""
        original, copied = members.start("b:1"), members.start("b:2")
        await original.connection_to("b:2")
        await copied.connection_to("b:1")

    @pytest.mark.parametrize("joined_before", [False, True])
    async def test_a_start_whose_later_one_leaves_was_alive_and_is_found_again(
        self, members: Members, joined_before: bool
    ) -> None:
        """Whoever of a copy and its original goes on under another id: its place is not the other one's."""
        other = members.start("c:1") if joined_before else None
        original = members.start("b:1")
        a = members.start("a:1")
        await a.connection_to("b:1")
        copied = members.start("b:2")
        await a.connection_to("b:2")
        await copied.stop()
        for member in [a] if other is None else [a, other]:
            connection = await member.connection_to("b:1")
            await original.connection_to(member.handler.config.instance)
            assert connection.remote.instance == "b:1"

    async def test_errors_of_the_caller_are_reported_and_cost_one_connection_only(self, members: Members) -> None:
        refused: list[Connection] = []

        async def refuse_first(connection: Connection) -> None:
            if not refused:
                refused.append(connection)
                raise RuntimeError("not this time")

        a, b = members.start("a:1", refuse=refuse_first), members.start("b:1")
        connection = await a.connection_to("b:1")
        assert connection is not refused[0]
        assert not refused[0].is_open
        assert any("not this time" in report for report in a.reports)
        await connection.send(b"welcome")
        assert await received(await b.connection_to("a:1"), 1) == [b"welcome"]

    async def test_nothing_is_left_behind(self, members: Members) -> None:
        before = asyncio.all_tasks()
        a, b = members.start("a:1"), members.start("b:1")
        await a.connection_to("b:1")
        await a.stop()
        await b.stop()
        late = members.start("c:1")
        await late.stop()
        await until(lambda: asyncio.all_tasks() <= before)
        await a.handler.close()

    async def test_cancelling_run_closes_everything(self, members: Members) -> None:
        a, b = members.start("a:1"), members.start("b:1")
        connection = await b.connection_to("a:1")
        a.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await a.task
        await ended(connection)
        assert a.open == []
