"""A replica's Ed25519 identity: raw 32-byte keys, 64-byte signatures."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


def generate_secret_key() -> bytes:
    """Return a new secret key (32 bytes)."""
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
    )


def public_key(secret: bytes) -> bytes:
    """Return the public key (32 bytes) of a secret key. Raises ValueError if ``secret`` is not 32 bytes."""
    return (
        Ed25519PrivateKey.from_private_bytes(secret)
        .public_key()
        .public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    )


def sign(secret: bytes, payload: bytes) -> bytes:
    """Return the signature (64 bytes) of ``payload``. Raises ValueError if ``secret`` is not 32 bytes."""
    return Ed25519PrivateKey.from_private_bytes(secret).sign(payload)


def verify(public: bytes, signature: bytes, payload: bytes) -> bool:
    """Tell whether ``signature`` of ``payload`` was made with the key of ``public``.

    Never raises: keys and signatures come from peers, whatever is wrong with them means no.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, payload)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


__all__ = ["generate_secret_key", "public_key", "sign", "verify"]
