from __future__ import annotations

from typing import Any

import pytest

from p2p_replication.transport.identity import generate_secret_key, public_key, sign, verify


def test_a_signature_is_good_for_its_key_and_payload_only() -> None:
    secret, other = generate_secret_key(), generate_secret_key()
    signature = sign(secret, b"payload")
    assert (len(secret), len(public_key(secret)), len(signature)) == (32, 32, 64)
    assert verify(public_key(secret), signature, b"payload")
    assert not verify(public_key(secret), signature, b"another payload")
    assert not verify(public_key(other), signature, b"payload")
    assert secret != other


@pytest.mark.parametrize("public", [b"", b"x", bytes(32), bytes([255]) * 32, bytes(33), None, "text", 7])
@pytest.mark.parametrize("signature", [b"", bytes(64), bytes(65), None, "text"])
def test_verify_says_no_to_whatever_a_peer_sends(public: Any, signature: Any) -> None:
    assert verify(public, signature, b"payload") is False


def test_a_secret_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        sign(b"short", b"payload")
    with pytest.raises(ValueError, match="32 bytes"):
        public_key(b"short")
