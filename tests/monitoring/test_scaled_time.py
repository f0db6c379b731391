"""Time in scaled rules passes faster, and nothing else of them is changed."""

import re

import pytest

from tests.monitoring.test_rules import ALERTMANAGER, RULES, tool
from tests.support.alert_watch import write_rules
from tests.support.scaled_time import FACTOR, SECONDS, scaled_alertmanager, scaled_rules


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        ("for: 15m", "for: 15000ms"),
        ("rate(a_total[5m]) offset 1w", "rate(a_total[5000ms]) offset 10080000ms"),
        ("(count(up))[30m:2m]", "(count(up))[30000ms:2000ms]"),
        ("lag_seconds > 900", "lag_seconds > 15"),
        ("< 2 * 86400", "< 2880"),
        ('bucket{le="60.0"}', 'bucket{le="1.0"}'),
    ],
)
def test_durations_are_divided(given: str, becomes: str) -> None:
    assert FACTOR == 60
    assert scaled_rules(given) == becomes


@pytest.mark.parametrize(
    "text",
    [
        "contactstream:slo_errors:ratio_rate5m > 0.144",
        "sum(increase(a_total)) >= 20",
        "# For 15m.",
        "description: Prometheus has seen no dedupe for 12d.",
        "labels: {severity: page, stage: sink}",
    ],
)
def test_names_counts_and_texts_stay(text: str) -> None:
    assert scaled_rules(text) == text


def test_every_number_of_seconds_in_the_rules_is_known() -> None:
    """One that is not known would not be divided, and its alert would come at another time."""
    text = "\n".join(file.read_text() for file in RULES)
    numbers = re.findall(r"(?<![\w.])\d{3,}(?![\w.%])", re.sub(r"#.*", "", text))
    assert {each for each in numbers if not SECONDS.fullmatch(each)} == set()


def test_prometheus_and_alertmanager_accept_what_is_scaled(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("scaled")
    tool("promtool", "check", "rules", *write_rules(folder))
    file = folder / "alertmanager.yml"
    file.write_text(scaled_alertmanager(ALERTMANAGER.read_text()))
    tool("amtool", "check-config", file)
