"""Keyed pseudonyms: the only form in which a study, a series or a patient is ever kept.

HMAC-SHA256 (RFC 2104) under the site's key: the same series gets the same pseudonym at one site, and
nobody without the key can find out which series it is by trying identifiers. Where the key comes from is site_key.py's.
"""

from __future__ import annotations

import hashlib
import hmac
import string
import unicodedata

from monitoring.records import coerce

_PSEUDONYM_CHARACTERS = 32
_PADDING = string.whitespace + "\0"


class Pseudonymizer:
    """Names things by keyed hash; the kind of thing goes into the hash, so that kinds can't be linked.

    Each pseudonym is 32 hexadecimal characters, and "" for what is empty or can't be told as text.
    Identifiers of the header are taken without the spaces and NULs that DICOM pads them with (PS3.5, 6.2),
    and in Unicode's composed form; capitals stay, since "a1" and "A1" may be two patients.
    """

    def __init__(self, key: bytes | None) -> None:
        """Without a key nothing is named: every pseudonym is ""."""
        self._key = key

    @property
    def fingerprint(self) -> str:
        """What tells two keys apart and says nothing of either; "" without a key."""
        return self._name("key", "fingerprint")[:16]

    def series(self, identifier: object) -> str:
        """A series' pseudonym, from whatever the host calls it, taken as it is."""
        text = coerce.shown(identifier) or ""
        return self._name("series", text) if text.strip(_PADDING) else ""

    def study(self, uid: object) -> str:
        """A study's pseudonym, from its StudyInstanceUID."""
        return self._named("study", uid)

    def accession(self, number: object) -> str:
        """An accession number's pseudonym: it links a session to a reader's findings on the same study."""
        return self._named("accession", number)

    def patient(self, identifier: object, issuer: object = None) -> str:
        """A patient's pseudonym, from PatientID and, where it is known, IssuerOfPatientID.

        Two hospitals give the same number to two patients, so the issuer counts. Where some images of a
        patient state it and others don't they are not linked: a link lost does less harm than a wrong one.
        """
        text, issued_by = _normal(identifier), _normal(issuer)
        if text and issued_by:
            text = f"{self._name('issuer', issued_by)}:{text}"  # of one length, so that no two pairs read the same
        return self._named("patient", text)

    def reader(self, name: object) -> str:
        """A reader's pseudonym, so that several readers of one exam can be told apart: their names are identities."""
        return self._named("reader", name)

    def name(self, text: str) -> str:
        """What stands for a name of a host's own of which nothing may be shown."""
        return self._named("name", text)

    def _named(self, kind: str, identifier: object) -> str:
        text = _normal(identifier)
        return self._name(kind, text) if text else ""

    def _name(self, kind: str, text: str) -> str:
        if self._key is None:
            return ""
        message = f"{kind}:{text}".encode(errors="surrogatepass")
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()[:_PSEUDONYM_CHARACTERS]


def _normal(identifier: object) -> str:
    text = None if identifier is None else coerce.shown(identifier)
    return unicodedata.normalize("NFC", text or "").strip(_PADDING)
