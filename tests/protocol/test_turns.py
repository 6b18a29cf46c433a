"""Who waits for whom in the answers to pulls: models that refer to each other, and no others."""

from __future__ import annotations

from dataclasses import replace

from p2p_replication.protocol import effects as fx
from p2p_replication.protocol.changes import ReadBatch
from p2p_replication.protocol.families import families
from p2p_replication.protocol.messages import ModelOffer, Request
from tests.protocol.raw_peer import RawPeer, some_rows


def offer(label: str, *refers: str, key: str = "uuid") -> ModelOffer:
    return ModelOffer(label, {"": key, **{f"field{i}": f"key of {other}: uuid" for i, other in enumerate(refers)}})


def test_models_that_refer_to_each_other_are_a_family() -> None:
    link = "link of (key of a.Book: uuid) and (key of a.Tag: uuid)"
    found = families(
        [offer("a.Shelf"), offer("a.Book", "a.Shelf", "auth.User"), offer("a.Tag"), offer("a.Book_tags", key=link),
         offer("a.Note"), offer("a.Remark", "a.Note"), offer("a.Alone")]
    )  # fmt: skip
    together = {"a.Shelf", "a.Book", "a.Tag", "a.Book_tags"}
    assert len({found[label] for label in together}) == 1
    assert found["a.Note"] == found["a.Remark"] != found["a.Shelf"]
    assert found["a.Alone"] == "a.Alone"


def test_a_cycle_is_a_family() -> None:
    found = families([offer("a.A", "a.B"), offer("a.B", "a.C"), offer("a.C", "a.A", "a.C")])
    assert len(set(found.values())) == 1


def asked(*offers: ModelOffer) -> RawPeer:
    """Return a peer that has asked for all models at once; the first batch of the first one was read, and is long."""
    peer = RawPeer(models=offers)
    peer.hello = _with_models(peer, offers)
    peer.open()
    labels = [one.label for one in offers]
    peer.say(*(Request(label, 1, {}, "", 0, more=label != labels[-1]) for label in labels))
    wishes = peer.session.pull_wishes()
    assert [wish.model for wish in wishes] == labels
    read(peer, 1, wishes)
    return peer


def _with_models(peer: RawPeer, offers: tuple[ModelOffer, ...]):
    values = {name: getattr(peer.hello, name) for name in peer.hello.__struct_fields__}
    return type(peer.hello)(**{**values, "models": list(offers)})


def read(peer: RawPeer, seq: int, wishes: list[fx.PullWish], *, ends: bool = False) -> None:
    """Give the session a batch for the first wish."""
    batch = ReadBatch("us", seq - 1, seq, some_rows(1), 1, {"us": 99} if ends else None)
    peer.session.changes_read(wishes, [replace(batch)])
    peer.look()


def turns(peer: RawPeer, count: int, *, ending: str = "") -> list[list[str]]:
    found = []
    for i in range(count):
        wishes = peer.session.pull_wishes()
        found.append([wish.model for wish in wishes])
        if wishes:
            read(peer, i + 2, wishes, ends=wishes[0].model == ending)
    return found


def test_a_long_pull_of_one_family_does_not_keep_another_waiting() -> None:
    peer = asked(offer("big"), offer("small"))
    assert turns(peer, 4, ending="small") == [["small"], ["big"], ["big"], ["big"]]


def test_two_long_pulls_take_turns() -> None:
    assert turns(asked(offer("one"), offer("two")), 4) == [["two"], ["one"], ["two"], ["one"]]


def test_children_wait_for_their_parents() -> None:
    peer = asked(offer("parent"), offer("child", "parent"))
    assert turns(peer, 3, ending="parent") == [["parent"], ["child"], ["child"]]
