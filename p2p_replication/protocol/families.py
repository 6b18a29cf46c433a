"""Which models refer to each other: their rows have to come in order, those of others need not wait for them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from p2p_replication.protocol.messages import ModelOffer

#: In a field's type, as ``codecs.wire_type`` writes it, and as the key of a many-to-many row has it twice.
_REFERENCE = re.compile(r"key of ([\w.]+)")


def families(offers: Sequence[ModelOffer]) -> dict[str, str]:
    """Return for each model the name of its family: those that it refers to or is referred to by, and so on."""
    family = {offer.label: offer.label for offer in offers}

    def head(label: str) -> str:
        while family[label] != label:
            label = family[label]
        return label

    for offer in offers:
        for kind in offer.fields.values():
            for other in _REFERENCE.findall(kind):
                if other in family:
                    family[head(offer.label)] = head(other)
    return {label: head(label) for label in family}
