"""What two servers say of their answers to the same request, so that they can be compared without the texts.

The attribute `tapchanger.answers` is JSON of one of `{"labels": [...]}` (the label of each text), `{"digests": [...]}` (a
digest of each text's entities) and `{"sketches": [[...], ...]}` (a random projection of each text's embedding), of the
first :data:`MOST_ROWS` texts of a request.
"""

from __future__ import annotations

from typing import Final

LABELS: Final = "labels"
DIGESTS: Final = "digests"
SKETCHES: Final = "sketches"
MOST_ROWS: Final = 32
SAME_COSINE: Final = 0.99
"""Embeddings of at least this cosine, as far as their sketches tell, count as the same answer."""
