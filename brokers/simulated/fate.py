"""What chance does to an order: hashed from the seed and the client order id, never drawn from a sequence.

So an order's fate is the same whatever else is sent, in whatever order, and across restarts.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import Decimal

from brokers.simulated.world import VenueSettings

REST_NEVER_FILLS = 0.25  # share of the partly filled orders whose rest never fills
REJECTED_ON_ARRIVAL = 0.5  # share of the rejections that come before acceptance
FIRST_FILL_LEAST, FIRST_FILL_MOST = 0.2, 0.8  # of the order's quantity


@dataclass(frozen=True, slots=True)
class Fate:
    """`first_fill` is the fraction filled at the first match when the order fills in parts, else None."""

    refused: bool  # turned down on arrival
    rejected: bool  # turned down after acceptance
    first_fill: Decimal | None
    rest_never_fills: bool


def fate_of(client_order_id: str, settings: VenueSettings) -> Fate:
    """The fate of the order with this client order id."""
    rejection = _chance(settings.seed, "rejection", client_order_id)
    refused = rejection < settings.rejection_probability * REJECTED_ON_ARRIVAL
    partial = _chance(settings.seed, "partial", client_order_id)
    width = FIRST_FILL_MOST - FIRST_FILL_LEAST
    fraction = FIRST_FILL_LEAST + width * _chance(settings.seed, "fraction", client_order_id)
    is_partial = partial < settings.partial_fill_probability
    return Fate(
        refused=refused,
        rejected=not refused and rejection < settings.rejection_probability,
        first_fill=Decimal(round(fraction * 10_000)) / 10_000 if is_partial else None,
        rest_never_fills=partial < settings.partial_fill_probability * REST_NEVER_FILLS,
    )


def _chance(seed: str, purpose: str, client_order_id: str) -> float:
    """A number in [0, 1), uniform over client order ids."""
    digest = hashlib.sha256(f"{seed}|{purpose}|{client_order_id}".encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48
