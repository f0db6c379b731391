"""The command grants: which address books are connected."""

from connectors.nylas.grants import unreadable
from streams.commands.nylas_application import administration, call
from streams.commands.tables import print_table
from streams.settings import NylasSettings


def list_grants(nylas: NylasSettings) -> None:
    """Prints every grant, and why its contacts cannot be read. Raises click.ClickException."""
    grants = call(administration(nylas).grants)
    print_table(
        ("id", "provider", "status", "left out", "address"),
        [
            (
                grant.id,
                grant.provider,
                "valid" if grant.valid else "expired",
                unreadable(grant) or "-",
                grant.email,
            )
            for grant in grants
        ],
    )
