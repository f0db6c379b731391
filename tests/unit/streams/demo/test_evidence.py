"""How the demo reads the metrics of a stage."""

from streams.demo.evidence import parse_samples


def test_samples_are_read_by_name_and_label() -> None:
    text = (
        "# TYPE contactstream_sink_rows counter\n"
        'contactstream_sink_rows_total{origin="backfill",outcome="created"} 2.0\n'
        'contactstream_sink_rows_total{origin="webhook",outcome="created"} 1.0\n'
    )
    assert parse_samples(text) == {("sink_rows", "created"): 3.0}
