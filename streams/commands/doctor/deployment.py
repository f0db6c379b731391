"""The settings of the deployment that `contactstream doctor` examines."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from connectors.salesforce.checkup.findings import CheckupFinding, fail, warn
from streams.settings import (
    KafkaSettings,
    NylasSettings,
    PeopleSettings,
    SalesforceSettings,
    SettingsError,
    SettingsGroup,
    load,
)

GroupT = TypeVar("GroupT", bound=SettingsGroup)


@dataclass(frozen=True, slots=True)
class Deployment:
    """The settings of each system; None for a group that has an unusable setting."""

    kafka: KafkaSettings | None
    salesforce: SalesforceSettings | None
    people: PeopleSettings | None
    nylas: NylasSettings | None
    unusable: tuple[CheckupFinding, ...] = ()
    """A finding for each group that has an unusable setting."""


def load_deployment(environ: Mapping[str, str] | None = None) -> Deployment:
    """The settings of the environment and of its file.

    An unusable group becomes a finding, and the other groups are examined all the same.
    """
    unusable: list[CheckupFinding] = []

    def read(group: type[GroupT]) -> GroupT | None:
        try:
            return load(group, environ)
        except SettingsError as error:
            remedy = "correct the setting; deploy/docs/settings.md describes each"
            unusable.append(fail(f"settings {group.prefix}", str(error), remedy))
            return None

    return Deployment(
        read(KafkaSettings),
        read(SalesforceSettings),
        read(PeopleSettings),
        read(NylasSettings),
        tuple(unusable),
    )


def not_examined(check: str, remedy: str = "correct the failure above first") -> CheckupFinding:
    """The finding for checks that need something which has failed already."""
    return warn(check, "not examined", remedy)
