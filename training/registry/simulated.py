"""Models that were learned from a simulated shop: how their manifest states it, and what their card says of it."""

from collections.abc import Mapping
from typing import Any

DATA, SIMULATED, SHA256 = "trainingData", "simulated", "sha256"  # fields of a manifest

# The tables from which default models were learned before manifests stated it: sales and sessions of 5,000 simulated sessions, seed 0.
BEFORE = frozenset(
    {
        "326741494360b012162c499bdd843afa07d080fa48e17168179c75d196c060e3",
        "65e0a67f80a612a300e3078f8544405f5ba08dd26ccecb775fce152c986c5f30",
    }
)

REMARK = (
    "> **A demonstration model.** It was learned from a simulated shop: its figures say nothing about your customers, products and pages.\n"
    "> Train a model on your own data before you rely on answers.\n"
)


def is_simulated(manifest: Mapping[str, Any]) -> bool:
    """Return whether a manifest states that its model was learned from a simulated table."""
    data = manifest.get(DATA)
    if not isinstance(data, Mapping):
        return False
    return data.get(SIMULATED) is True or (SIMULATED not in data and data.get(SHA256) in BEFORE)


def with_remark(card: str) -> str:
    """Return a card with the remark that its model is for demonstration, after its title."""
    title, _, rest = card.partition("\n")
    return f"{title}\n\n{REMARK}{rest}"
