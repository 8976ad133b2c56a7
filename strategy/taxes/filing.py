"""Filing statuses, as people and forms spell them."""

from __future__ import annotations

from enum import StrEnum

from strategy.taxes.errors import TaxInputError


class FilingStatus(StrEnum):
    """How a return is filed."""

    SINGLE = "single"  # unmarried (IRC §1(c))
    MFJ = "MFJ"  # married filing jointly (IRC §1(a))
    MFS = "MFS"  # married filing separately (IRC §1(d))
    HOH = "HOH"  # head of household (IRC §1(b))
    QSS = "QSS"  # qualifying surviving spouse: the rates of a joint return (IRC §§1(a)(2), 2(a))

    @property
    def rate_status(self) -> FilingStatus:
        """The status whose tables apply: a surviving spouse uses those of a joint return."""
        return FilingStatus.MFJ if self is FilingStatus.QSS else self

    @classmethod
    def parse(cls, text: object) -> FilingStatus:
        """The status that `text` spells: MFJ, "married filing jointly", Single; capitals, spaces and signs do not
        matter. Raises TaxInputError."""
        letters = "".join(letter for letter in str(text).casefold() if letter.isalpha())
        found = _SPELLINGS.get(letters) if isinstance(text, str) else None
        if found is None:
            raise TaxInputError(f"filing_status: expected one of {', '.join(cls)}, was {text!r}.")
        return found


_SPELLINGS = {
    "single": FilingStatus.SINGLE,
    "unmarried": FilingStatus.SINGLE,
    "mfj": FilingStatus.MFJ,
    "joint": FilingStatus.MFJ,
    "marriedjoint": FilingStatus.MFJ,
    "marriedjointly": FilingStatus.MFJ,
    "marriedfilingjoint": FilingStatus.MFJ,
    "marriedfilingjointly": FilingStatus.MFJ,
    "mfs": FilingStatus.MFS,
    "separate": FilingStatus.MFS,
    "marriedseparate": FilingStatus.MFS,
    "marriedseparately": FilingStatus.MFS,
    "marriedfilingseparate": FilingStatus.MFS,
    "marriedfilingseparately": FilingStatus.MFS,
    "hoh": FilingStatus.HOH,
    "headofhousehold": FilingStatus.HOH,
    "qss": FilingStatus.QSS,
    "qw": FilingStatus.QSS,
    "survivingspouse": FilingStatus.QSS,
    "qualifyingsurvivingspouse": FilingStatus.QSS,
    "qualifyingwidow": FilingStatus.QSS,
    "qualifyingwidower": FilingStatus.QSS,
}
RATE_STATUSES = tuple(status for status in FilingStatus if status.rate_status is status)
