"""Radiography systems by vendor and family: the closed vocabulary that Manufacturer and ManufacturerModelName become.

A header's text can hold anything, a hospital's or a person's name included. What is kept of it is one of the
constants below, or "other": never a part of the text itself. Names as the vendors write them in their DICOM
conformance statements; a vendor that was bought keeps the name of who sells its systems now.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from msgspec import Struct

from monitoring.metrics.catalogue import OTHER

_LONGEST_READ = 256  # the attributes hold 64 characters


class Vendor(Struct, frozen=True):
    """A vendor's ``name``, how headers begin the words that mean it, and its ``families`` with theirs.

    Words are compared without capitals, spaces and punctuation. Of families the first that fits counts.
    """

    name: str
    spellings: Sequence[str]
    families: Mapping[str, Sequence[str]] = {}


VENDORS = (
    Vendor(
        "Siemens Healthineers",
        ("siemens",),
        {
            "Ysio": ("ysio",),
            "Multix": ("multix",),
            "Multitom": ("multitom",),
            "Luminos": ("luminos", "axiomluminos"),
            "Mobilett": ("mobilett",),
            "Aristos": ("aristos", "axiomaristos"),
            "Iconos": ("iconos", "axiomiconos"),
            "Fluorospot": ("fluorospot",),
        },
    ),
    Vendor(
        "GE HealthCare",
        ("gehealthcare", "gemedical", "gems", "generalelectric", "ge"),
        {
            "Definium": ("definium",),
            "Discovery XR": ("discoveryxr",),
            "Optima XR": ("optimaxr",),
            "Revolution XR": ("revolutionx",),
            "Brivo XR": ("brivoxr",),
            "AMX": ("amx",),
            "Precision": ("precision",),
            "Proteus": ("proteus",),
            "Thunder": ("thunder",),
        },
    ),
    Vendor(
        "Philips",
        ("philips",),
        {
            "DigitalDiagnost": ("digitaldiagnost",),
            "ProGrade": ("prograde",),
            "MobileDiagnost": ("mobilediagnost",),
            "DuraDiagnost": ("duradiagnost",),
            "CombiDiagnost": ("combidiagnost",),
            "ProxiDiagnost": ("proxidiagnost",),
            "BuckyDiagnost": ("buckydiagnost",),
            "EasyDiagnost": ("easydiagnost",),
            "Essenta": ("essenta",),
            "PCR Eleva": ("pcr",),
            "Radiography 7300": ("radiography7300",),
        },
    ),
    Vendor(
        "Canon",
        ("canon", "toshiba"),
        {
            "CXDI": ("cxdi",),
            "Omnera": ("omnera",),
            "RadREX": ("radrex",),
            "Ultimax": ("ultimax",),
            "Adora": ("adora",),
        },
    ),
    Vendor(
        "Fujifilm",
        ("fuji",),
        {
            "FDR": ("fdr",),
            "D-EVO": ("devo",),
            "FCR": ("fcr",),
            "Console Advance": ("consoleadvance", "drid", "crir"),
        },
    ),
    Vendor(
        "Carestream",
        ("carestream", "kodak", "eastmankodak"),
        {
            "DRX": ("drx",),
            "DirectView": ("directview",),
            "OnSight": ("onsight",),
            "DR": ("dr3000", "dr3500", "dr7500", "dr9500"),
            "CR": ("cr850", "cr950", "cr975", "classiccr", "elitecr", "maxcr", "pointofcare"),
        },
    ),
    Vendor(
        "Agfa",
        ("agfa",),
        {
            "DX-D": ("dxd",),
            "DR": ("dr100", "dr400", "dr600", "dr800", "valory"),
            "CR": ("cr10", "cr12", "cr15", "cr25", "cr30", "cr35", "cr75", "cr85", "dxg", "dxm", "adc"),
        },
    ),
    Vendor(
        "Samsung",
        ("samsung",),
        {
            "GC85": ("gc85", "xgeogc85"),
            "GC80": ("gc80", "xgeogc80"),
            "GC70": ("gc70", "xgeogc70"),
            "GM85": ("gm85",),
            "GM60": ("gm60",),
            "GF50": ("gf50",),
            "GU60": ("gu60", "xgeogu60"),
            "XGEO": ("xgeo",),
        },
    ),
    Vendor(
        "Konica Minolta",
        ("konica", "minolta"),
        {"AeroDR": ("aerodr",), "KDR": ("kdr",), "Regius": ("regius",), "ImagePilot": ("imagepilot",)},
    ),
    Vendor(
        "Shimadzu",
        ("shimadzu",),
        {
            "RadSpeed": ("radspeed",),
            "MobileDaRt": ("mobiledart",),
            "Sonialvision": ("sonialvision",),
            "Fluorospeed": ("fluorospeed",),
        },
    ),
    Vendor("EOS imaging", ("eos", "biospace"), {"EOSedge": ("eosedge",), "EOS": ("eos", "sterfos")}),
    Vendor("Arcoma", ("arcoma",), {"Intuition": ("intuition",), "Precision": ("precision",)}),
    Vendor("Del Medical", ("delmedical", "delimaging", "umg"), {}),
    Vendor("DRGEM", ("drgem",), {"GXR": ("gxr",), "Topaz": ("topaz",), "Jade": ("jade",), "Diamond": ("diamond",)}),
    Vendor("GMM", ("gmm", "generalmedicalmerate"), {"Calypso": ("calypso",), "Opera": ("opera",)}),
    Vendor("Hitachi", ("hitachi",), {}),
    Vendor("IDC", ("imagingdynamics", "idc"), {"Xplorer": ("xplorer",)}),
    Vendor("Italray", ("italray",), {}),
    Vendor("Mindray", ("mindray",), {"DigiEye": ("digieye",), "MobiEye": ("mobieye",)}),
    Vendor("NRT", ("nrt", "nordiskrontgen", "nordiskroentgen"), {"Adora": ("adora",)}),
    Vendor("Sedecal", ("sedecal",), {}),
    Vendor("Stephanix", ("stephanix",), {}),
    Vendor("Swissray", ("swissray",), {"ddR": ("ddr",)}),
    Vendor("United Imaging", ("unitedimaging", "uih"), {"uDR": ("udr",)}),
    Vendor("Villa Sistemi Medicali", ("villasistemi",), {}),
    Vendor("Visaris", ("visaris",), {"Vision": ("vision",)}),
)
_WHOLE_WORDS = frozenset({"ge", "gems", "eos", "idc", "nrt", "uih", "umg", "gmm", "amx", "pcr", "adc"})


def manufacturer(text: str) -> str:
    """The vendor that ``text`` names, as a name of this vocabulary; "other" where it is none of them."""
    vendor = _vendor(text)
    return vendor.name if vendor else OTHER


def device_model(manufacturer_text: str, text: str) -> str:
    """The family of that vendor's systems that ``text`` names; "other" where it is none of them."""
    vendor = _vendor(manufacturer_text)
    families = vendor.families.items() if vendor else ()
    return next((family for family, spellings in families if _begins_a_word(text, spellings)), OTHER)


def _vendor(text: str) -> Vendor | None:
    return next((vendor for vendor in VENDORS if _begins_a_word(text, vendor.spellings)), None)


def _begins_a_word(text: str, spellings: Sequence[str]) -> bool:
    """Whether one of them stands in ``text`` where a word begins, however that is spaced and written."""
    words = re.findall(r"[a-z0-9]+", text[:_LONGEST_READ].lower())
    # "AXIOM Luminos", "Digital Diagnost" and "DX-D" in one piece, from each word on.
    rests = ["".join(words[start:]) for start in range(len(words))]
    return any(
        spelling in words if spelling in _WHOLE_WORDS else any(rest.startswith(spelling) for rest in rests)
        for spelling in spellings
    )
