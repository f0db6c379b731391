"""Check of the largest lookup that a sync sends: does the org, or a proxy before it, take it?"""

from collections.abc import Mapping

from connectors.salesforce.api.composite import Subrequest, query_subrequest
from connectors.salesforce.api.errors import Action, RequestRejected
from connectors.salesforce.checkup.findings import CheckupFinding, fail, ok, warn
from connectors.salesforce.queries import lookup
from connectors.salesforce.schema import Schema

LOOKUP_CHECK = "full-size lookup"
# More contacts of this kind than one lookup takes: keys of two UUIDs and three long addresses.
_CONTACTS = 1_000
_KEY_DIGITS = 66
_ADDRESS_DIGITS = 25


def full_lookup(schemas: Mapping[str, Schema]) -> list[Subrequest]:
    """The subrequests of a lookup that is as large as one may be. They find no record.

    `schemas` are those of Contact and Lead.
    """
    people = [
        (
            f"doctor/{number:0{_KEY_DIGITS}}",
            tuple(f"{kind}{number:0{_ADDRESS_DIGITS}}@doctor.invalid" for kind in "abc"),
        )
        for number in range(_CONTACTS)
    ]
    found = lookup(people, schemas["Contact"], schemas["Lead"])
    return [
        query_subrequest(statement, f"{sobject}{number}", deleted=True)
        for number, (sobject, statement) in enumerate(found.statements)
    ]


def lookup_size(requests: list[Subrequest], refused: RequestRejected | None) -> CheckupFinding:
    """Whether such a lookup passes; `refused` is its refusal, if it does not."""
    size = f"{len(requests)} queries of {max(len(one.url) for one in requests):,} characters"
    if refused is None:
        return ok(LOOKUP_CHECK, f"{size} are answered")
    if refused.verdict.action is Action.HALVE:
        return warn(
            LOOKUP_CHECK,
            f"{size} are refused for their size ({refused}): the sink looks fewer contacts up at "
            "once, which takes more calls",
            "find out whether a proxy between here and Salesforce limits the size of requests; if "
            "none does, map fewer fields",
        )
    return fail(
        LOOKUP_CHECK,
        f"{size} are refused: {refused}",
        "see the findings about the fields of Contact and Lead; the sink's lookups fail likewise",
    )
