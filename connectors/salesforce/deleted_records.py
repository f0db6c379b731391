"""What people deleted or merged in the org, remembered beyond the recycle bin. No I/O.

The recycle bin keeps a record for 15 days, and answers every lookup until then. A deletion seen by
a lookup is therefore not remembered at once: the daily sweep (`deletion_sweep`) asks the bin for
all of them long before it is emptied.
"""

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

_Lifted = TypeVar("_Lifted", str, int)

# Records that are remembered. One takes 0.6 kB with two addresses, so all of them take 60 MB, in a
# process that is planned for 1 GB. Beyond it the oldest are forgotten.
MAX_DELETED_RECORDS = 100_000
# Lifts that are remembered. People lift single deletions; 1,000 a week would fill it in two years.
MAX_LIFTS = 100_000
# Bytes of the hash of an address. Of 200,000 hashes and 2,000,000 addresses that are looked up, two
# are the same by accident with a probability of 2e5 * 2e6 / 2^64 = 2e-8. With 6 bytes it would be
# 1e-3, and somebody would never be created.
ADDRESS_HASH_BYTES = 8
SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class DeletedRecord:
    """A record with our key that people deleted, or merged into another record.

    `master_id`: the record that was kept; None for a deletion. `deleted_at`: seconds since the
    epoch, by the org's clock. `address_hashes` are salted.
    """

    key: str
    record_id: str
    master_id: str | None
    deleted_at: int
    address_hashes: tuple[int, ...]

    def outdates(self, known: "DeletedRecord | None") -> bool:
        """Whether it is to be remembered in place of what is known of the same contact key.

        A merge tells more than a deletion: people delete the Lead of a contact whose Contact they
        merged. It stays, unless the same record was brought back and deleted later.
        """
        if known is None:
            return True
        merged, was_merged = self.master_id is not None, known.master_id is not None
        if self.record_id != known.record_id and merged is not was_merged:
            return merged
        return self.deleted_at >= known.deleted_at and self != known


class DeletedRecords:
    """The deleted records of one org, by contact key and by hashed address.

    The salt hides the addresses from somebody who sees hashes alone. It is kept beside them: who
    may read both can test addresses, and could read the org's contacts in the other topics anyway.
    """

    def __init__(self, max_records: int = MAX_DELETED_RECORDS) -> None:
        self.salt = secrets.token_bytes(SALT_BYTES)
        self.forgotten = 0
        """How many records were forgotten because there were too many."""
        self._max_records = max_records
        self._by_key: dict[str, DeletedRecord] = {}  # the oldest first
        self._by_hash: dict[int, str] = {}  # the last key that had the address
        self._lifted_keys: dict[str, int] = {}
        self._lifted_hashes: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def take_over(self, other: "DeletedRecords") -> None:
        """Becomes what another one is, which is not used any more. Takes no time."""
        self.salt, self.forgotten = other.salt, self.forgotten + other.forgotten
        self._by_key, self._by_hash = other._by_key, other._by_hash
        self._lifted_keys, self._lifted_hashes = other._lifted_keys, other._lifted_hashes

    def records(self) -> list[DeletedRecord]:
        """All records that are remembered, the oldest first."""
        return list(self._by_key.values())

    def hash_of(self, address: str) -> int:
        """The salted hash of an address as `emails.normalise` gives it."""
        raw = address.encode(errors="surrogatepass")
        digest = hashlib.blake2b(raw, digest_size=ADDRESS_HASH_BYTES, key=self.salt).digest()
        return int.from_bytes(digest)

    def get(self, key: str) -> DeletedRecord | None:
        """The deleted record of a contact key, whether lifted or not."""
        return self._by_key.get(key)

    def remember(self, record: DeletedRecord) -> str | None:
        """Takes a record over, unless its deletion was lifted.

        Beyond the limit the oldest is forgotten and counted; then its contact key is returned.
        """
        if record.deleted_at <= self._lifted_keys.get(record.key, -1):
            return None
        self.forget(record.key)
        self._by_key[record.key] = record
        for address_hash in record.address_hashes:
            self._by_hash[address_hash] = record.key
        if len(self._by_key) <= self._max_records:
            return None
        oldest = next(iter(self._by_key))
        self.forget(oldest)
        self.forgotten += 1
        return oldest

    def forget(self, key: str) -> None:
        """Forgets the deleted record of a contact key."""
        known = self._by_key.pop(key, None)
        for address_hash in known.address_hashes if known else ():
            if self._by_hash.get(address_hash) == key:
                del self._by_hash[address_hash]

    def lift_key(self, key: str, at: int) -> None:
        """Lets a contact key be created again: deletions up to `at` (epoch seconds) count no more.

        The recycle bin may still hold the record, so the lift is remembered.
        """
        known = self._by_key.get(key)
        if known is not None and known.deleted_at <= at:
            self.forget(key)
        _note(self._lifted_keys, key, at)

    def lift_hash(self, address_hash: int, at: int) -> None:
        """The same for the hash of an address."""
        _note(self._lifted_hashes, address_hash, at)

    def is_lifted(self, key: str | None, addresses: Iterable[str], deleted_at: int) -> bool:
        """Whether somebody lifted a deletion of this time, by its key or by one of its addresses.

        Without a key only the addresses count.
        """
        if not self._lifted_keys and not self._lifted_hashes:
            return False
        if key is not None and deleted_at <= self._lifted_keys.get(key, -1):
            return True
        return any(
            deleted_at <= self._lifted_hashes.get(self.hash_of(address), -1)
            for address in addresses
        )

    def found(self, key: str, addresses: Iterable[str]) -> list[DeletedRecord]:
        """The remembered records of a contact key and of addresses, without those lifted."""
        keys = {key: None}
        if self._by_hash:
            for address in addresses:
                address_hash = self.hash_of(address)
                holder = self._by_hash.get(address_hash)
                lifted_at = self._lifted_hashes.get(address_hash, -1)
                if holder is not None and self._by_key[holder].deleted_at > lifted_at:
                    keys[holder] = None
        return [record for each in keys if (record := self._by_key.get(each)) is not None]

    def merged_into(self, master_ids: Iterable[str]) -> list[DeletedRecord]:
        """The remembered records that were merged into any of these."""
        masters = {record_id[:15] for record_id in master_ids}
        return [
            record
            for record in self._by_key.values()
            if record.master_id is not None and record.master_id[:15] in masters
        ]


def _note(lifts: dict[_Lifted, int], what: _Lifted, at: int) -> None:
    lifts[what] = max(at, lifts.pop(what, at))
    if len(lifts) > MAX_LIFTS:
        del lifts[next(iter(lifts))]
