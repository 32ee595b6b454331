"""Keyed pseudonyms: the only form in which a study, a series or a patient is ever kept.

HMAC-SHA256 (RFC 2104) under the site's key: the same series gets the same pseudonym at one site, and
nobody without the key can find out which series it is by trying identifiers.
"""

from __future__ import annotations

import hashlib
import hmac

from monitoring import coerce

_PSEUDONYM_CHARACTERS = 32


class Pseudonymizer:
    """Names things by keyed hash; the kind of thing goes into the hash, so that kinds can't be linked."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def series(self, identifier: object) -> str:
        """A series' pseudonym: 32 hexadecimal characters; "" for what can't be told as text."""
        return self._name("series", identifier)

    def _name(self, kind: str, identifier: object) -> str:
        text = coerce.shown(identifier)
        if text is None:
            return ""
        message = f"{kind}:{text}".encode(errors="surrogatepass")
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()[:_PSEUDONYM_CHARACTERS]
