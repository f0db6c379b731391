"""Match and coverage: who is found, who is created, who is left out, and which grants lack whom."""

from deploy.monitoring.dashboard_source.grafana import (
    BLUE,
    FIXED_WINDOW,
    GREEN,
    ORANGE,
    RED,
    Json,
    Panel,
    Row,
    bar_gauge,
    graph,
    query,
    stat,
    steps,
    table,
)
from deploy.monitoring.dashboard_source.shared import (
    LIVE,
    OUTCOME_COLORS,
    first,
    match_rate,
    match_rate_stat,
)

UID, TITLE, SINCE = "contactstream-match", "contactstream: Match and coverage", "now-56d"
DESCRIPTION = (
    "How many people of the address books are in Salesforce, how they were found, who was created, "
    "who was left out and why, and about whom a person has to decide."
)

FIRST = "contactstream_sink_first_resolutions_total"
PEOPLE = "contactstream_coverage_people"
GRANT_PEOPLE = "contactstream_coverage_grant_people"

DAILY: Json = {"interval": "1d", "bars": True, "stacked": True, "exceptions": FIXED_WINDOW}
WEEKLY: Json = {"interval": "1w", "bars": True, "exceptions": FIXED_WINDOW}


def _change() -> Panel:
    before = match_rate("7d").replace("[7d]", "[7d] offset 7d")
    return stat(
        "Weekly change",
        "The match rate of the last 7 days less the one of the 7 days before.",
        [query(f"{match_rate('7d')} - {before}", "change")],
        unit="percentunit",
        decimals=1,
        width=3,
        exceptions=FIXED_WINDOW,
    )


def _people(state: str) -> str:
    return f'max({PEOPLE}{{state="{state}"}})'


def _coverage() -> Panel:
    return stat(
        "Coverage",
        "Share of the people of the address books who may be in Salesforce and who have a record "
        "there. The console counts them.",
        [query(f"{_people('with_record')} / ({_people('eligible')} > 0)", "with a record")],
        unit="percentunit",
        decimals=1,
        width=4,
        interval="1d",
    )


def _to_decide() -> Panel:
    return stat(
        "For a person to decide",
        "People whose address stands on a record with another name (covered), and people who may "
        "be several records (ambiguous). Nothing was written for them; the console lists them.",
        [query(_people("covered"), "covered"), query(_people("ambiguous"), "ambiguous")],
        width=6,
        decimals=0,
        thresholds=steps((None, GREEN), (1, ORANGE)),
    )


def _without() -> Panel:
    return stat(
        "Failed",
        "People without a record because their newest change failed. Redrive their dead letters.",
        [query(_people("failed"), "people")],
        width=3,
        decimals=0,
        thresholds=steps((None, GREEN), (1, RED)),
        runbook="dead-letters",
    )


def _letters() -> Panel:
    oldest = "contactstream_dead_letters_oldest_timestamp_seconds"
    return stat(
        "Oldest letter",
        "How old the oldest dead letter is that nobody has redriven or discarded. They are deleted "
        "after 30 days.",
        [query(f"max(timestamp({oldest}) - {oldest})", "age")],
        unit="s",
        decimals=1,
        width=4,
        thresholds=steps((None, GREEN), (86400, ORANGE), (20 * 86400, RED)),
        runbook="dead-letters",
    )


def _by_week() -> Panel:
    return graph(
        "Match rate by week",
        "Share of the contacts that were found when they were first looked up, in the week that "
        "ends at each bar.",
        [query(match_rate("7d"), "found")],
        unit="percentunit",
        width=8,
        high=1,
        colors={"found": BLUE},
        **WEEKLY,
    )


def _by_how() -> Panel:
    return graph(
        "First resolutions by how, by week",
        "How contacts were found (by email, through a converted Lead or a merged record, by the "
        "org's duplicate rule), and what was created for the others (contact, lead).",
        [
            query(
                f"sum by (result, how) (increase({FIRST}{{{LIVE}}}[7d])) > 0",
                "{{result}}: {{how}}",
            )
        ],
        unit="short",
        width=8,
        decimals=0,
        stacked=True,
        **WEEKLY,
    )


def _new_records() -> Panel:
    return graph(
        "New Contacts and Leads a day",
        "Records that were created. A Contact belongs to the Account of a domain of the person; "
        "people of no known Account become Leads.",
        [
            query(
                f'sum by (how) (increase({FIRST}{{result="created", {LIVE}}}[1d]))',
                "{{how}}",
            )
        ],
        unit="short",
        decimals=0,
        colors={"contact": BLUE, "lead": ORANGE},
        **DAILY,
    )


def _linked() -> Panel:
    created = 'result="created", ' + LIVE
    linked = 'how="contact", ' + created
    return graph(
        "New people linked to an Account",
        "Share of the people created in the 7 days before who became a Contact of an Account. A "
        "drop means that the Accounts are not read, or that their Website is missing.",
        [query(f"{first(linked, '7d')} / ({first(created, '7d')} > 0)", "linked to an Account")],
        unit="percentunit",
        high=1,
        interval="1d",
        exceptions=FIXED_WINDOW,
        runbook="accounts-stale",
    )


def _skipped() -> Panel:
    return graph(
        "Left out on purpose, by reason, a day",
        "Contacts that are not synced: excluded by a setting, without an address, deleted by "
        "people in Salesforce, and so on.",
        [
            query(
                "sum by (reason) (increase(contactstream_sink_skipped_total[1d])) > 0",
                "{{reason}}",
            )
        ],
        unit="short",
        decimals=0,
        **DAILY,
    )


def _undecided() -> Panel:
    rows = "contactstream_sink_rows_total"
    return graph(
        "Covered, ambiguous and chosen among several, a day",
        "Contacts for which nothing was written because a person has to decide, and those for "
        "which one of several equally good records was chosen.",
        [
            query(
                f'sum by (outcome) (increase({rows}{{outcome=~"covered|ambiguous", {LIVE}}}[1d]))',
                "{{outcome}}",
            ),
            query("sum(increase(contactstream_sink_several_matched_total[1d]))", "several matched"),
        ],
        unit="short",
        decimals=0,
        colors={"covered": "yellow", "ambiguous": ORANGE, "several matched": "purple"},
        **DAILY,
    )


def _matched() -> Panel:
    return graph(
        "Found, by how, a day",
        "Contacts that were found at all, also those that had a record before (key).",
        [
            query(
                f"sum by (by) (increase(contactstream_sink_matched_total{{{LIVE}}}[1d])) > 0",
                "{{by}}",
            )
        ],
        unit="short",
        decimals=0,
        **DAILY,
    )


def _owners() -> Panel:
    return graph(
        "Owners of created records, a day",
        "By the rule of PEOPLE_OWNER that gave a created record its owner. `fallback`: no rule "
        "gave one, or the org refused it, and the record is the sink user's. `sync_user`: "
        "PEOPLE_OWNER is empty.",
        [query("sum by (rule) (increase(contactstream_sink_owners_total[1d])) > 0", "{{rule}}")],
        unit="short",
        width=12,
        decimals=0,
        colors={"fallback": ORANGE},
        **DAILY,
    )


def _coverage_over_time() -> Panel:
    return graph(
        "People by state",
        "People of the address books: who may be in Salesforce, who has a record, who is covered "
        "by a record with another name, ambiguous, failed, held until a person releases it, or "
        "only planned.",
        [query(f"max by (state) ({PEOPLE})", "{{state}}")],
        unit="short",
        interval="1d",
        colors={"with_record": GREEN, "failed": RED}
        | {state: OUTCOME_COLORS[state] for state in ("covered", "ambiguous", "held", "planned")},
    )


def _coverage_by_grant() -> Panel:
    return bar_gauge(
        "Coverage by grant",
        "Share of the people with a record, for the largest grants (a hash of their ID) and for "
        "all others together; the least covered first. The console names the grants.",
        [
            query(
                f'sort(max by (grant) ({GRANT_PEOPLE}{{state="with_record"}}) '
                f'/ (max by (grant) ({GRANT_PEOPLE}{{state="eligible"}}) > 0))',
                "{{grant}}",
                instant=True,
            )
        ],
        unit="percentunit",
        decimals=1,
        high=1,
        thresholds=steps((None, RED), (0.5, ORANGE), (0.8, GREEN)),
    )


def _people_by_grant() -> Panel:
    return bar_gauge(
        "People by grant",
        "People who may be in Salesforce, for the largest grants and for all others together.",
        [
            query(
                f'sort_desc(max by (grant) ({GRANT_PEOPLE}{{state="eligible"}}))',
                "{{grant}}",
                instant=True,
            )
        ],
        decimals=0,
    )


def _open_letters() -> Panel:
    return bar_gauge(
        "Open dead letters by reason",
        "Changes that failed and that nobody has redriven or discarded yet.",
        [
            query(
                "sort_desc(max by (reason) (contactstream_dead_letters_open) > 0)",
                "{{reason}}",
                instant=True,
            )
        ],
        decimals=0,
        thresholds=steps((None, ORANGE), (20, RED)),
        runbook="dead-letters",
    )


def _warnings() -> Panel:
    return table(
        "What a person should look into, 7 days",
        "Texts that were shortened, values that their field cannot hold, fields that are missing "
        "or refused, domains of several Accounts. The detail names the field or the reason.",
        query(
            "sort_desc(sum by (warning, detail) "
            "(increase(contactstream_sink_warnings_total[7d])) >= 1)",
            instant=True,
            table=True,
        ),
        {"warning": "Warning", "detail": "Detail", "Value": "Contacts"},
        width=8,
        decimals=0,
        exceptions=FIXED_WINDOW,
    )


def _second_chances() -> Panel:
    return graph(
        "Offered again and deleted, a day",
        "Contacts that were offered to the sink again because they have no record of their own, "
        "and contacts that are gone from their address book.",
        [
            query("sum(increase(contactstream_reader_reoffered_total[1d]))", "offered again"),
            query(
                "sum by (reason) (increase(contactstream_reader_deleted_total[1d]))",
                "deleted: {{reason}}",
            ),
        ],
        unit="short",
        width=12,
        decimals=0,
        **DAILY,
    )


def _replaced() -> Panel:
    return graph(
        "Values replaced in Salesforce, a day",
        "Values that were not blank and that contactstream replaced, by object and by where the "
        "change came from. The journal has each of them: contactstream undo puts them back.",
        [
            query(
                "sum by (object, origin) (increase(contactstream_sink_replaced_values_total[1d]))",
                "{{object}}, {{origin}}",
            )
        ],
        unit="short",
        width=24,
        decimals=0,
        **DAILY,
    )


def rows() -> list[Row]:
    """The rows of the dashboard."""
    return [
        Row(
            "Now",
            [_without(), _to_decide(), _letters(), _coverage(), match_rate_stat(4), _change()],
        ),
        Row("Who is found", [_by_week(), _by_how(), _matched()]),
        Row("Who is created, and who is not", [_new_records(), _linked(), _skipped()]),
        Row("Who is covered", [_coverage_over_time(), _coverage_by_grant(), _people_by_grant()]),
        Row("For a person", [_undecided(), _open_letters(), _warnings()]),
        Row("What was replaced", [_replaced()]),
        Row("What else changed", [_owners(), _second_chances()]),
    ]
