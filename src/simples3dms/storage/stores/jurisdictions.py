"""Under whose law bytes lie: the codes that are known, what a bloc holds, and the regions whose country is certain."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

#: ISO 3166-1 alpha-2.
COUNTRIES: Final = frozenset(
    """AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY
    BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK
    FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR
    IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK
    ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM
    PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF
    TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW""".split()  # noqa: SIM905 a list is read more easily in this way
)
_EU: Final = frozenset(
    """AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK""".split()  # noqa: SIM905 a list is read more easily in this way
)
BLOCS: Final[Mapping[str, frozenset[str]]] = {"EU": _EU, "EEA": _EU | {"IS", "LI", "NO"}}
#: Regions whose country their provider publishes. What is not listed is not known: nothing is concluded from a name.
_AWS: Final[Mapping[str, str]] = {
    "af-south-1": "ZA",
    "ap-east-1": "HK",
    "ap-northeast-1": "JP",
    "ap-northeast-2": "KR",
    "ap-northeast-3": "JP",
    "ap-south-1": "IN",
    "ap-south-2": "IN",
    "ap-southeast-1": "SG",
    "ap-southeast-2": "AU",
    "ap-southeast-3": "ID",
    "ap-southeast-4": "AU",
    "ap-southeast-5": "MY",
    "ca-central-1": "CA",
    "ca-west-1": "CA",
    "cn-north-1": "CN",
    "cn-northwest-1": "CN",
    "eu-central-1": "DE",
    "eu-central-2": "CH",
    "eu-north-1": "SE",
    "eu-south-1": "IT",
    "eu-south-2": "ES",
    "eu-west-1": "IE",
    "eu-west-2": "GB",
    "eu-west-3": "FR",
    "il-central-1": "IL",
    "me-central-1": "AE",
    "me-south-1": "BH",
    "sa-east-1": "BR",
    "us-east-1": "US",
    "us-east-2": "US",
    "us-gov-east-1": "US",
    "us-gov-west-1": "US",
    "us-west-1": "US",
    "us-west-2": "US",
}
#: Rough parts of the world, of the countries where providers have regions.
_AREAS: Final[Mapping[str, frozenset[str]]] = {
    "europe": BLOCS["EEA"] | {"EU", "EEA", "CH", "GB"},
    "north america": frozenset({"CA", "MX", "US"}),
    "south america": frozenset({"AR", "BR", "CL", "CO", "PE"}),
    "east asia": frozenset({"CN", "HK", "JP", "KR", "TW"}),
    "south asia": frozenset({"ID", "IN", "MY", "SG", "TH"}),
    "oceania": frozenset({"AU", "NZ"}),
    "middle east": frozenset({"AE", "BH", "IL", "QA", "SA"}),
    "africa": frozenset({"KE", "NG", "ZA"}),
}
_AWS_HOST: Final = re.compile(r"s3[.-](?:dualstack\.)?([a-z]{2}(?:-gov)?-[a-z]+-\d)\.amazonaws\.com(?:\.cn)?")
_BACKBLAZE_HOST: Final = re.compile(r"s3\.(us|ca|eu)-[a-z]+-\d{3}\.backblazeb2\.com")
#: Backblaze's regions by the beginning of their names: its one in Europe is in Amsterdam.
_BACKBLAZE: Final[Mapping[str, str]] = {"us": "US", "ca": "CA", "eu": "NL"}


def is_jurisdiction(code: str) -> bool:
    return code in COUNTRIES or code in BLOCS


def is_inside(jurisdiction: str | None, allowed: Collection[str] | None) -> bool:
    """Whether what lies in `jurisdiction` is within `allowed` (None: anywhere is). What is not known is in no list."""
    if allowed is None:
        return True
    if jurisdiction is None:
        return False
    return _members(jurisdiction) <= frozenset().union(*map(_members, allowed))


def _members(code: str) -> frozenset[str]:
    return BLOCS.get(code) or frozenset({code})


def country_of_region(region: str) -> str | None:
    """The country of a region that AWS has; None: it has none of this name."""
    return _AWS.get(region)


def area_of(code: str | None) -> str | None:
    """A part of the world whose countries are near one another; None: not known."""
    return None if code is None else next((name for name, codes in _AREAS.items() if code in codes), None)


def known_jurisdiction(kind: str, settings: Mapping[str, Any]) -> str | None:
    """The country that a store's settings prove: a region of AWS or Backblaze at its own host; else None."""
    if kind != "s3":
        return None
    endpoint = settings.get("endpoint")
    if endpoint is None:
        return _AWS.get(str(settings.get("region")))
    host = urlsplit(str(endpoint)).hostname or ""
    if found := _AWS_HOST.fullmatch(host):
        return _AWS.get(found.group(1))
    if found := _BACKBLAZE_HOST.fullmatch(host):
        return _BACKBLAZE[found.group(1)]
    return None
