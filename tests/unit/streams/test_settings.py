"""A setting that cannot be used is named, with its remedy; a secret is never printed."""

from pathlib import Path

import pytest

from streams.settings import (
    GROUPS,
    BridgeSettings,
    KafkaSettings,
    NylasSettings,
    PeopleSettings,
    SalesforceSettings,
    SettingsError,
    SinkSettings,
    load,
    require_api_key,
    unknown_variables,
)


def test_every_group_has_usable_defaults() -> None:
    for group in GROUPS:
        load(group, {})


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "contactstream.toml"
    file.write_text("[sink]\nlinger = 5.0\nin_flight = 3\n")
    settings = load(SinkSettings, {"CONTACTSTREAM_CONFIG": str(file), "SINK_LINGER": "0.5"})
    assert (settings.linger, settings.in_flight) == (0.5, 3)


def test_a_secret_may_come_as_a_file_and_is_not_in_any_text_of_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("nyk_very_secret\n")
    settings = load(
        NylasSettings,
        {"NYLAS_API_KEY_FILE": str(file), "NYLAS_WEBHOOK_SECRETS": "new-one, old-one"},
    )
    assert settings.api_key.get_secret_value() == "nyk_very_secret"
    assert [secret.get_secret_value() for secret in settings.webhook_secrets] == [
        "new-one",
        "old-one",
    ]
    assert "secret" not in str(settings).replace("webhook_secrets", "").replace("Secret", "")
    assert "old-one" not in repr(settings)


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"SINK_LINGER": "-1"}, "SINK_LINGER: Input should be greater than 0"),
        ({"SINK_IN_FLIGHT": "many"}, "SINK_IN_FLIGHT: Input should be a valid integer"),
        (
            {"SINK_BATCH_SIZE_FILE": "/nowhere/at/all"},
            "SINK_BATCH_SIZE_FILE=/nowhere/at/all cannot be read",
        ),
    ],
)
def test_a_value_that_cannot_be_used_is_named(environ: dict[str, str], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        load(SinkSettings, environ)


@pytest.mark.parametrize("limit", [1024, 1_000_000, 5_000_000])
def test_the_bridges_limit_lies_between_what_nylas_sends_and_what_a_topic_takes(limit: int) -> None:
    with pytest.raises(
        SettingsError,
        match=r"BRIDGE_BODY_LIMIT: .* than or equal to \d+ \(largest notification .*1 MB",
    ):
        load(BridgeSettings, {"BRIDGE_BODY_LIMIT": str(limit)})
    assert load(BridgeSettings, {"BRIDGE_BODY_LIMIT": "1500000"}).body_limit == 1_500_000


def test_a_misspelt_setting_in_the_file_is_an_error_that_names_the_right_one(
    tmp_path: Path,
) -> None:
    file = tmp_path / "contactstream.toml"
    file.write_text("[sink]\nlingr = 5.0\n")
    with pytest.raises(
        SettingsError, match=r"\[sink\] has no setting lingr; did you mean linger\?"
    ):
        load(SinkSettings, {"CONTACTSTREAM_CONFIG": str(file)})


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("[snk]\nlinger = 5.0\n", r"unknown tables: \[snk\]; did you mean sink\?"),
        ("linger = 5.0\n", r"unknown tables: \[linger\]"),
        ("[sink]\n[postgres]\n", r"unknown tables: \[postgres\]$"),
    ],
)
def test_an_unknown_table_is_an_error(tmp_path: Path, table: str, text: str) -> None:
    file = tmp_path / "contactstream.toml"
    file.write_text(table)
    for group in (SinkSettings, KafkaSettings):
        with pytest.raises(SettingsError, match=text):
            load(group, {"CONTACTSTREAM_CONFIG": str(file)})


@pytest.mark.parametrize(
    ("variable", "lines"),
    [
        ("SINK_LINGR", ["SINK_LINGR is not a setting; did you mean SINK_LINGER?"]),
        (
            "NYLAS_API_KEY_FIEL",
            ["NYLAS_API_KEY_FIEL is not a setting; did you mean NYLAS_API_KEY_FILE?"],
        ),
        (
            "CONTACTSTREAM_CONF",
            ["CONTACTSTREAM_CONF is not a setting; did you mean CONTACTSTREAM_CONFIG?"],
        ),
        ("KAFKA_ZZZ", ["KAFKA_ZZZ is not a setting"]),
        (
            "PEOPLE_OVERWRITE_OTHERS",
            [
                "PEOPLE_OVERWRITE_OTHERS was removed: what people typed stays in every record, "
                "whoever created it; for a field that has to mirror the contact set "
                'policy = "always" in SALESFORCE_MAPPING_FILE'
            ],
        ),
        ("SINK_LINGER", []),
        ("SALESFORCE_PRIVATE_KEY_FILE", []),
        ("PATH", []),
        ("SINK_SERVICE_HOST", []),
        ("KAFKA_PORT", []),
        ("KAFKA_PORT_9092_TCP_ADDR", []),
        ("BRIDGE_SERVICE_PORT_HTTP", []),
    ],
)
def test_an_unknown_variable_is_reported_without_its_value(variable: str, lines: list[str]) -> None:
    assert unknown_variables({variable: "hunter2", "HOME": "/"}) == lines


def test_a_removed_setting_in_the_file_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "contactstream.toml"
    file.write_text("[people]\noverwrite_others = true\n")
    with pytest.raises(SettingsError, match=r'overwrite_others: .* set policy = "always"'):
        load(PeopleSettings, {"CONTACTSTREAM_CONFIG": str(file)})


def test_an_empty_path_means_no_path() -> None:
    assert load(SalesforceSettings, {"SALESFORCE_MAPPING_FILE": ""}).mapping_file is None
    assert load(PeopleSettings, {"PEOPLE_SUPPRESSION_LIST": ""}).suppression_list is None
    assert load(SalesforceSettings, {"SALESFORCE_MAPPING_FILE": "m.toml"}).mapping_file == Path(
        "m.toml"
    )


def test_a_wrong_secret_is_not_shown_in_the_error() -> None:
    with pytest.raises(SettingsError) as caught:
        load(KafkaSettings, {"KAFKA_SASL_PASSWORD": "hunter2", "KAFKA_SECURITY_PROTOCOL": "none"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "  "])
def test_a_missing_api_key_is_named_with_where_to_get_one(key: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="NYLAS_API_KEY is not set: create an API key"):
        require_api_key(load(NylasSettings, {"NYLAS_API_KEY": key}), {})
    file = tmp_path / "key"
    file.write_text("\n")
    environ = {"NYLAS_API_KEY_FILE": str(file)}
    with pytest.raises(SettingsError, match="key is empty"):
        require_api_key(load(NylasSettings, environ), environ)
    require_api_key(load(NylasSettings, {"NYLAS_API_KEY": "key"}), {})
