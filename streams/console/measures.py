"""The measures that the pages show, by what they are called there."""

from streams.console.history import How, Measure
from streams.metrics import CALLS

STAGES = ("bridge", "reader", "dedupe", "sink")

# What a stage has done: one counter of each.
DONE = {
    "bridge": "contactstream_bridge_notifications_total",
    "reader": "contactstream_reader_contacts_total",
    "dedupe": "contactstream_dedupe_events_total",
    "sink": "contactstream_sink_rows_total",
}

RATES = {stage: Measure(metric, How.RATE) for stage, metric in DONE.items()}
LAGS = {
    stage: Measure(f"contactstream_{stage}_oldest_unfinished_timestamp_seconds", How.AGE)
    for stage in STAGES
}
FAILED = Measure("contactstream_sink_rows_total", How.RATE, (("outcome", "failed"),))
ALL_CALLS = Measure("contactstream_salesforce_calls_total", How.RATE)
CALLS_BY_KIND = {
    kind: Measure("contactstream_salesforce_calls_total", How.RATE, (("kind", kind),))
    for kind in CALLS
}
CALLS_USED = Measure("contactstream_salesforce_api_used", How.HIGHEST)

EVERY = (*RATES.values(), *LAGS.values(), FAILED, ALL_CALLS, *CALLS_BY_KIND.values(), CALLS_USED)
