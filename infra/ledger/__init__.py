"""The ledger: every reply that was paid for, found again by the key of its request."""

from infra.ledger.ledger import Ledger
from infra.ledger.segment import Entry

__all__ = ["Entry", "Ledger"]
