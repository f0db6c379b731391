"""A process notices new secrets, and ends for them only when it can start with them."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from streams.runtime import secret_files
from streams.runtime.exit_codes import ExitCode
from streams.runtime.secret_files import changed_files, unusable, watch_secret_files
from streams.runtime.signals import Stop
from streams.settings import KafkaSettings, NylasSettings, given_files
from tests.support.secret_volume import SecretVolume

# One look after the other, without a wait.
AT_ONCE = 0.001
ENDS_SECONDS = 20.0


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text("old")
    return file


class Looks:
    """Does something to the files before each look, and notes the failures."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[object] = []
        self.failures = 0
        real = secret_files.fingerprints

        def look(paths: list[str]) -> dict[str, str]:
            if self.steps and callable(step := self.steps.pop(0)):
                step()
            return real(paths)

        monkeypatch.setattr(secret_files, "fingerprints", look)

    def failed(self) -> None:
        self.failures += 1


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(monkeypatch)


async def test_a_new_content_ends_the_watch_once_it_stays(secret: Path, looks: Looks) -> None:
    looks.steps = [None, None, lambda: secret.write_text("half"), lambda: secret.write_text("new")]
    async with asyncio.timeout(ENDS_SECONDS):
        changed = await changed_files([str(secret)], lambda: "", looks.failed, AT_ONCE)
    assert changed == [str(secret)]
    assert looks.steps == []


async def test_a_file_that_is_gone_for_a_moment_has_not_changed(secret: Path, looks: Looks) -> None:
    looks.steps = [
        None,
        secret.unlink,
        None,
        lambda: secret.write_text("old"),
        None,
        lambda: secret.write_text("new"),
    ]
    async with asyncio.timeout(ENDS_SECONDS):
        assert await changed_files([str(secret)], lambda: "", looks.failed, AT_ONCE)
    assert looks.steps == []


async def test_the_swap_of_a_mounted_secret_is_one_change_of_all_its_files(
    tmp_path: Path, looks: Looks
) -> None:
    volume = SecretVolume(tmp_path / "kafka", {"tls.crt": "old", "tls.key": "old"})
    paths = [volume.path("tls.crt"), volume.path("tls.key")]
    looks.steps = [None, lambda: volume.write({"tls.crt": "new", "tls.key": "new"})]
    async with asyncio.timeout(ENDS_SECONDS):
        changed = await changed_files(paths, lambda: "", looks.failed, AT_ONCE)
    assert changed == paths


async def test_a_key_of_a_mounted_secret_that_stays_as_it_was_has_not_changed(
    tmp_path: Path, looks: Looks
) -> None:
    volume = SecretVolume(tmp_path / "kafka", {"password": "old", "ca.crt": "old"})
    paths = [volume.path("password"), volume.path("ca.crt")]
    looks.steps = [
        None,
        lambda: volume.write({"password": "old", "ca.crt": "old"}),
        None,
        lambda: volume.write({"password": "new", "ca.crt": "old"}),
    ]
    async with asyncio.timeout(ENDS_SECONDS):
        changed = await changed_files(paths, lambda: "", looks.failed, AT_ONCE)
    assert changed == [volume.path("password")]
    assert looks.steps == [], "the same content again ended the watch"


async def test_files_that_cannot_be_used_are_named_once_and_the_process_goes_on(
    secret: Path, looks: Looks
) -> None:
    looks.steps = [None, lambda: secret.write_text("wrong"), None, None, None]

    def problem() -> str:
        if looks.failures == 3:
            secret.write_text("right")
        return "" if secret.read_text() == "right" else "it is not the key of the certificate"

    with capture_logs() as logged:
        async with asyncio.timeout(ENDS_SECONDS):
            found = await changed_files([str(secret)], problem, looks.failed, AT_ONCE)
    assert found == [str(secret)]
    assert looks.failures == 3
    (line,) = logged
    assert line["reason"] == "it is not the key of the certificate"
    assert line["files"] == [str(secret)]


async def test_the_process_stops_with_its_own_exit_code(
    secret: Path, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret_files, "SPREAD_SECONDS", 0.0)
    monkeypatch.setattr(secret_files, "CHECK_SECONDS", AT_ONCE)
    monkeypatch.setenv("NYLAS_API_KEY_FILE", str(secret))
    looks.steps = [None, lambda: secret.write_text("new")]
    stop = Stop()
    async with asyncio.timeout(ENDS_SECONDS):
        await watch_secret_files(stop, (NylasSettings,), looks.failed)
    assert stop.is_set()
    assert stop.code == ExitCode.SECRETS_CHANGED


def test_a_signal_counts_when_it_came_first() -> None:
    stop = Stop()
    stop.set()
    stop.end(ExitCode.SECRETS_CHANGED)
    assert stop.code == 0


def test_the_files_are_those_that_the_settings_name(tmp_path: Path, secret: Path) -> None:
    environ = {
        "NYLAS_API_KEY_FILE": str(secret),
        "KAFKA_SASL_PASSWORD_FILE": str(secret),
        "KAFKA_SASL_PASSWORD": "wins over the file",
        "SALESFORCE_MAPPING_FILE": str(tmp_path / "mapping.toml"),
    }
    assert given_files((NylasSettings, KafkaSettings), environ) == [str(secret)]
    assert given_files((KafkaSettings,), environ) == []


def test_settings_that_cannot_be_loaded_are_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NYLAS_API_KEY_FILE", str(tmp_path / "gone"))
    assert "NYLAS_API_KEY_FILE" in unusable((KafkaSettings, NylasSettings))
    monkeypatch.delenv("NYLAS_API_KEY_FILE")
    assert unusable((KafkaSettings, NylasSettings)) == ""
