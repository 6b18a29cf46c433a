"""Checks on what a peer sends to negotiate a connection, and the pieces of it that this package needs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aiortc import RTCIceCandidate
from aiortc.sdp import candidate_from_sdp

#: Characters of a description or candidate; real ones have a few thousand at most.
MAX_SDP_LENGTH = 65_536
MAX_CANDIDATE_LENGTH = 1_000

_FINGERPRINT = re.compile(r"a=fingerprint:sha-256\s+([0-9A-F:]+)\s*", re.IGNORECASE)


class BadDescription(ValueError):
    """A peer's description or candidate cannot be used; the text says why."""


def checked_description(sdp: object) -> str:
    """Return ``sdp`` if it describes one data channel transport and nothing else. Raises BadDescription."""
    if not isinstance(sdp, str) or len(sdp) > MAX_SDP_LENGTH:
        raise BadDescription(f"its SDP is no text of at most {MAX_SDP_LENGTH} characters")
    media = [line[2:].split(" ")[0] for line in sdp.splitlines() if line.startswith("m=")]
    if media != ["application"]:
        raise BadDescription(f"its SDP describes {', '.join(media)[:60] or 'nothing'} instead of one data channel")
    fingerprint(sdp)
    return sdp


def fingerprint(sdp: str) -> bytes:
    """Return the SHA-256 digest (32 bytes) of the certificate that ``sdp`` names. Raises BadDescription."""
    lines = (_FINGERPRINT.fullmatch(line) for line in sdp.splitlines())
    found = {match[1].upper() for match in lines if match}
    if len(found) != 1:
        raise BadDescription(f"its SDP names {len(found)} SHA-256 fingerprints, not one")
    try:
        digest = bytes.fromhex(found.pop().replace(":", ""))
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise BadDescription("its SDP names a fingerprint that is no SHA-256 digest")
    return digest


def parse_candidate(data: object) -> RTCIceCandidate | None:
    """Return the ICE candidate of a trickled signal, None if it says that no more come. Raises BadDescription."""
    if data is None:
        return None
    if not isinstance(data, Mapping):
        raise BadDescription("its candidate is no object")
    text = data.get("candidate")
    if not isinstance(text, str) or len(text) > MAX_CANDIDATE_LENGTH:
        raise BadDescription(f"its candidate is no text of at most {MAX_CANDIDATE_LENGTH} characters")
    # browsers begin with "candidate:", node-datachannel with "a=candidate:"
    text = text.strip().removeprefix("a=").removeprefix("candidate:")
    if not text:
        return None
    try:
        candidate = candidate_from_sdp(text)
    except (AssertionError, ValueError, IndexError):
        raise BadDescription(f"its candidate {text[:80]!r} cannot be read") from None
    candidate.sdpMid = _text_or_none(data.get("sdpMid"))
    index = data.get("sdpMLineIndex")
    candidate.sdpMLineIndex = index if isinstance(index, int) else None
    if candidate.sdpMid is None and candidate.sdpMLineIndex is None:
        candidate.sdpMLineIndex = 0
    return candidate


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None


__all__ = ["BadDescription", "checked_description", "fingerprint", "parse_candidate"]
