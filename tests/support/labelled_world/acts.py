"""Kinds of people by what somebody does with their record, or with their entry, after a sync.

Each function adds one person of its kind. `number` counts them within the kind.
"""

from __future__ import annotations

from typing import Any

from connectors.salesforce.simulator.schema import make_id
from connectors.salesforce.simulator.world import INTEGRATION_USER
from tests.support.labelled_world.model import (
    COVERED,
    DELETED,
    KEY,
    Entry,
    Expected,
    LabelledWorld,
    Person,
    Target,
    Verdict,
)
from tests.support.labelled_world.play import Stage

ENRICHMENT_USER = make_id("005", 3)


def _new_phone(person: Person) -> str:
    return f"+1 555 {person.number:06d} 1"


def _created(world: LabelledWorld, kind: str, number: int, **fields: Any) -> tuple[Person, Entry]:
    """Somebody whom the first day creates, every other one as a Contact."""
    person = world.person(kind, account=number % 2 == 0)
    return person, world.entry(person, [person.main], book=0, **fields)


def _follows(record: str | None = None) -> Expected:
    return Expected(record=record, wrong=Verdict.NOT_FOLLOWED)


# Edits


def corrected_title(world: LabelledWorld, number: int) -> None:
    person, entry = _created(world, "edit: corrected title", number)
    world.act(2, person, lambda stage: stage.edit(stage.ours(entry.key), Title="Head of Sales"))
    world.change(entry, 2, phone=_new_phone(person))
    if number % 2:
        world.change(entry, 3, job_title=f"Promoted {person.number}")
    world.holds(person, Phone=_new_phone(person))


def cleared_phone(world: LabelledWorld, number: int) -> None:
    person, entry = _created(world, "edit: cleared phone", number)
    world.act(2, person, lambda stage: stage.edit(stage.ours(entry.key), Phone=None))
    world.change(entry, 2, job_title=f"Promoted {person.number}")
    if number % 2:
        world.change(entry, 3, phone=_new_phone(person))
    else:  # nor does the other address book fill it
        world.entry(person, [person.main], book=1, day=3)
    world.holds(person, Title=f"Promoted {person.number}")


def corrected_last_name(world: LabelledWorld, number: int) -> None:
    person, entry = _created(world, "edit: corrected last name", number)
    corrected = f"{person.last}-Married" if number % 2 else f"{person.last}s"
    world.act(2, person, lambda stage: stage.edit(stage.ours(entry.key), LastName=corrected))
    world.change(entry, 2, phone=_new_phone(person))
    world.holds(person, Phone=_new_phone(person))


def email_of_the_rep(world: LabelledWorld, number: int) -> None:
    """The rep's Email is never moved; ours goes to a further address field."""
    person, entry = _created(world, "edit: Email of the rep", number)
    world.act(2, person, lambda stage: stage.edit(stage.ours(entry.key), Email=person.private))
    world.change(entry, 2, phone=_new_phone(person))
    world.holds(person, person.main, Phone=_new_phone(person))


def cleared_email(world: LabelledWorld, number: int) -> None:
    person, entry = _created(world, "edit: cleared Email", number)
    world.act(2, person, lambda stage: stage.edit(stage.ours(entry.key), Email=None))
    world.change(entry, 2, phone=_new_phone(person))
    world.holds(person, Phone=_new_phone(person))


def other_primary_address(world: LabelledWorld, number: int) -> None:
    """The address book has a new primary address. Email was ours, and follows."""
    person, entry = _created(world, "edit: new primary address in the address book", number)
    emails = [{"email": person.alias}, {"email": person.main}][: 1 + number % 2]
    person.values.add(person.alias)
    world.change(entry, 2, emails=emails)
    world.holds(person, Email=person.alias)


def absent_in_the_address_book(world: LabelledWorld, number: int) -> None:
    """What the address book does not have any more never blanks anything."""
    person, entry = _created(world, "edit: values leave the address book", number)
    world.change(entry, 2, phone_numbers=None, job_title=None)
    world.holds(person, Phone=person.phone, Title=person.title)


def enrichment(world: LabelledWorld, number: int) -> None:
    """A tool writes over our values, as a user of its own or as ours."""
    person, entry = _created(world, "edit: enrichment tool", number)
    user = INTEGRATION_USER if number % 3 == 2 else ENRICHMENT_USER
    values = {"Title": f"Enriched {person.number}", "Phone": f"+99 {person.number}"}
    world.act(2, person, lambda stage: stage.edit(stage.ours(entry.key), user, **values))
    world.change(entry, 2, phone=_new_phone(person), job_title=f"Promoted {person.number}")


def other_integration_user(world: LabelledWorld, number: int) -> None:
    """The record was created by us, but as another user. Our values are ours all the same."""
    person, entry = _created(world, "edit: the integration user changed", number)
    world.act(2, person, lambda stage: stage.change_creator(stage.ours(entry.key)))
    world.change(entry, 2, phone=_new_phone(person), job_title=f"Promoted {person.number}")
    world.holds(person, Phone=_new_phone(person), Title=f"Promoted {person.number}")


def nobody_edits(world: LabelledWorld, number: int) -> None:
    """The values that we wrote follow the address book, twice."""
    person, entry = _created(world, "edit: nobody does", number)
    world.change(entry, 2, phone=_new_phone(person))
    world.change(entry, 3, phone=f"{_new_phone(person)}1", job_title=f"Promoted {person.number}")
    world.holds(person, Phone=f"{_new_phone(person)}1", Title=f"Promoted {person.number}")


def married(world: LabelledWorld, number: int) -> None:
    """The address book changes the name: the key says who it is."""
    person, entry = _created(world, "edit: another name in the address book", number)
    last = world.surname()
    world.change(entry, 2, surname=last)
    world.holds(person, LastName=last)


def edited_before_the_first_sync(world: LabelledWorld, number: int) -> None:
    """A typed record is filled, then edited, then the address book changes."""
    person = world.person("edit: of a typed record that we filled")
    record = (world.contact if number % 2 else world.lead)(person, Email=person.main, Title="CEO")
    entry = world.entry(person, [person.main])
    world.act(2, person, lambda stage: stage.edit(stage.row(record), LastName=f"{person.last}e"))
    world.change(entry, 2, phone=_new_phone(person), job_title=f"Promoted {person.number}")
    world.holds(person, Phone=_new_phone(person), Title="CEO")


# Merges


def merged_into_typed(world: LabelledWorld, number: int) -> None:
    """Our Contact loses against a hand-typed one with another address."""
    person = world.person("merge: into a hand-typed record", account=number % 2 == 0)
    table = world.contact if number % 2 == 0 else world.lead
    typed = table(person, Email=person.private, Title=f"Typed {person.number}")
    entry = world.entry(person, [person.main], Expected(target=person.target), book=0)
    world.act(2, person, lambda stage: stage.merge(stage.row(typed), stage.ours(entry.key)))
    world.change(entry, 2, _follows(typed), phone=_new_phone(person))
    if number % 3 == 0:  # the same person in another book, at the same time
        phone = _new_phone(person)
        world.entry(person, [person.main], _follows(typed), book=1, day=2, phone=phone)
    world.holds(person, person.main, Phone=_new_phone(person))


def merged_into_ours(world: LabelledWorld, number: int) -> None:
    """A hand-typed record loses against ours; its address is in another address book."""
    person = world.person("merge: of a hand-typed record into ours", account=number % 2 == 0)
    table = world.contact if number % 2 == 0 else world.lead
    typed = table(person, Email=person.alias)
    entry = world.entry(person, [person.main], Expected(target=person.target), book=0)
    world.act(2, person, lambda stage: stage.merge(stage.ours(entry.key), stage.row(typed)))
    world.entry(person, [person.alias], _follows(), book=1, day=2)
    world.holds(person, person.alias, Title=person.title, **{KEY: entry.key})


def merged_both_ours(world: LabelledWorld, number: int) -> None:
    """Two address books, two addresses, two records of ours; somebody merges them."""
    person = world.person("merge: two of our records", account=number % 2 == 0)
    target = Expected(target=person.target)
    second_address = f"second.{person.main}"
    one = world.entry(person, [person.main], target, book=0)
    other = world.entry(person, [second_address], target, book=1)

    def merge(stage: Stage) -> None:
        stage.merge(stage.ours(one.key), stage.ours(other.key))

    world.act(2, person, merge)
    world.change(other, 2, _follows(), phone=f"+49 {person.number}")
    if number % 2:
        world.change(one, 2, _follows(), job_title=f"Promoted {person.number}")
        world.holds(person, Title=f"Promoted {person.number}")
    world.holds(person, second_address, Phone=person.phone)


def merged_in_a_chain(world: LabelledWorld, number: int) -> None:
    """Our record was merged into another, and that one into a third."""
    person = world.person("merge: chain", account=True)
    second = world.contact(person, Email=person.private)
    third = world.contact(person, Email=person.alias, Phone=f"+44 {person.number}")
    entry = world.entry(person, [person.main], Expected(target=person.target))
    world.act(2, person, lambda stage: stage.merge(stage.row(second), stage.ours(entry.key)))
    if number % 2:  # a change between the two merges
        world.change(entry, 2, _follows(second), phone=_new_phone(person))
    later = 3 if number % 2 else 2
    world.act(later, person, lambda stage: stage.merge(stage.row(third), stage.row(second)))
    world.change(entry, later, _follows(third), job_title=f"Promoted {person.number}")
    world.holds(person, person.main, Title=f"Promoted {person.number}")


def converted_then_merged(world: LabelledWorld, number: int) -> None:
    """Our Lead was converted, and the Contact merged into a hand-typed one."""
    person = world.person("merge: Contact of a converted Lead")
    typed = world.contact(person, Email=person.private, Title=f"Typed {person.number}")
    entry = world.entry(person, [person.main], Expected(target=person.target))

    def act(stage: Stage) -> None:
        stage.merge(stage.row(typed), stage.convert(stage.ours(entry.key)))

    world.act(2, person, act)
    world.change(entry, 2, _follows(typed), phone=_new_phone(person))
    world.holds(person, person.main)


def merged_then_converted(world: LabelledWorld, number: int) -> None:
    """Our Lead was merged into a hand-typed one, and that one was converted."""
    person = world.person("merge: into a Lead that is converted")
    typed = world.lead(person, Email=person.private)
    entry = world.entry(person, [person.main], Expected(target=person.target))

    def act(stage: Stage) -> None:
        stage.merge(stage.row(typed), stage.ours(entry.key))
        stage.convert(stage.row(typed))

    world.act(2, person, act)
    world.change(entry, 2, _follows(), phone=_new_phone(person))
    world.holds(person, person.main, Phone=_new_phone(person))


def merged_before_the_first_sync(world: LabelledWorld, number: int) -> None:
    """Nobody of ours: the record with the address was merged into one with another address."""
    person = world.person("merge: before the first sync")
    master = world.contact(person, Email=person.private)
    loser = world.contact(person, Email=person.main)
    if number % 2:  # by way of a converted Lead
        world.lead(person, Email=person.alias, IsConverted=True, ConvertedContactId=loser)
    address = person.alias if number % 2 else person.main
    world.act(1, person, lambda stage: stage.merge(stage.row(master), stage.row(loser)))
    world.entry(person, [address], _follows(master))
    world.holds(person, address, Title=person.title)


def merged_then_deleted(world: LabelledWorld, number: int) -> None:
    """Our record was merged, and the master deleted: that is a deletion."""
    person = world.person("merge: and the master deleted", account=number % 2 == 0)
    table = world.contact if number % 2 == 0 else world.lead
    master = table(person, Email=person.private)
    entry = world.entry(person, [person.main], Expected(target=person.target))

    def act(stage: Stage) -> None:
        stage.merge(stage.row(master), stage.ours(entry.key))
        stage.delete(stage.row(master))

    world.act(2, person, act)
    world.change(entry, 2, DELETED, phone=_new_phone(person))


# Deletions


def _delete_ours(world: LabelledWorld, person: Person, entry: Entry, day: int = 2) -> None:
    world.act(day, person, lambda stage: stage.delete(stage.ours(entry.key)))


def deleted_by_an_admin(world: LabelledWorld, number: int) -> None:
    person, entry = _created(world, "deletion: by an admin", number)
    _delete_ours(world, person, entry)
    world.change(entry, 2, DELETED, phone=_new_phone(person))
    world.change(entry, 3, DELETED, job_title=f"Promoted {person.number}")


def deleted_and_in_other_books(world: LabelledWorld, number: int) -> None:
    person, entry = _created(world, "deletion: the same junk in other address books", number)
    _delete_ours(world, person, entry)
    if number % 2:
        world.change(entry, 2, DELETED, phone=_new_phone(person))
    else:
        world.again(entry, 4, DELETED)
    world.entry(person, [person.main], DELETED, book=1, day=2)
    world.entry(person, [person.main, person.alias], DELETED, book=2, day=3)


def deleted_and_purged(world: LabelledWorld, number: int) -> None:
    """The recycle bin is emptied before the contact changes, and after the daily sweep."""
    person, entry = _created(world, "deletion: and the recycle bin emptied", number)
    _delete_ours(world, person, entry)
    # the bin is emptied before day 4, see `labelled_world`
    world.change(entry, 4, DELETED, phone=_new_phone(person))
    if number % 2:
        world.entry(person, [person.main], DELETED, book=2, day=4)


def deleted_owner_of_several_books(world: LabelledWorld, number: int) -> None:
    person, entry = _created(world, "deletion: of a record of several address books", number)
    filler = world.entry(person, [person.main], book=1, day=2)
    _delete_ours(world, person, entry, 3)
    world.change(filler, 3, DELETED, phone=_new_phone(person))
    if number % 2:
        world.change(entry, 3, DELETED, phone=_new_phone(person))
    else:
        world.again(entry, 3, DELETED)


def undeleted(world: LabelledWorld, number: int) -> None:
    person, entry = _created(world, "deletion: undone", number)
    deleted: list[str] = []

    def delete(stage: Stage) -> None:
        row = stage.ours(entry.key)
        stage.delete(row)
        deleted.append(row["Id"])

    def undelete(stage: Stage) -> None:
        for record_id in deleted:
            stage.undelete(record_id)

    world.act(2, person, delete)
    world.change(entry, 2, DELETED, phone=_new_phone(person))
    world.act(3, person, undelete)
    world.change(entry, 3, Expected(), job_title=f"Promoted {person.number}")
    world.holds(person, Title=f"Promoted {person.number}", Phone=_new_phone(person))


def deleted_and_typed_again(world: LabelledWorld, number: int) -> None:
    """A deletion blocks creation, and never a match."""
    person, entry = _created(world, "deletion: and typed in again", number)
    _delete_ours(world, person, entry)
    world.change(entry, 2, DELETED, phone=_new_phone(person))
    sobject = "Contact" if number % 2 else "Lead"
    more = {} if number % 2 else {"Company": "Typed"}
    world.act(3, person, lambda stage: stage.type_in(person, sobject, Email=person.main, **more))
    world.change(entry, 3, Expected(), job_title=f"Promoted {person.number}")
    world.holds(person, Title=f"Promoted {person.number}", Phone=_new_phone(person))


# Conversions


def converted_to_a_new_contact(world: LabelledWorld, number: int) -> None:
    person = world.person("conversion: to a new Contact")
    entry = world.entry(person, [person.main], book=0)
    world.act(2, person, lambda stage: stage.convert(stage.ours(entry.key)))
    world.change(entry, 2, Expected(), phone=_new_phone(person))
    if number % 2:
        world.entry(person, [person.main], Expected(), book=1, day=2)
    if world.lead_mapping:  # otherwise nothing says that the phone is ours
        world.holds(person, Phone=_new_phone(person))


def converted_to_a_typed_contact(world: LabelledWorld, number: int) -> None:
    person = world.person("conversion: to a hand-typed Contact")
    typed = world.contact(person, Email=person.private, Title=f"Typed {person.number}")
    entry = world.entry(person, [person.main], Expected(target=person.target), book=0)
    world.act(2, person, lambda stage: stage.convert(stage.ours(entry.key), typed))
    world.change(entry, 2, Expected(record=typed), job_title=f"Promoted {person.number}")
    if number % 2:
        world.entry(person, [person.main], Expected(record=typed), book=1, day=2)
    world.holds(person, person.main, Phone=person.phone)


def converted_to_our_contact(world: LabelledWorld, number: int) -> None:
    """A Lead of one address and a Contact of the other: somebody converts the one to the other."""
    person = world.person("conversion: to another record of ours", account=True)
    contact = world.entry(person, [person.main], book=0)
    lead = world.entry(person, [person.private], Expected(target=Target("Lead")), book=1)

    def act(stage: Stage) -> None:
        stage.convert(stage.ours(lead.key), stage.ours(contact.key)["Id"])

    world.act(2, person, act)
    world.change(lead, 2, Expected(), phone=_new_phone(person))
    world.holds(person, person.private, Phone=person.phone, **{KEY: contact.key})


# Release and takeover


def taken_over(world: LabelledWorld, number: int) -> None:
    """The owner is deleted in Nylas; the other address book takes the record over."""
    person, owner = _created(world, "takeover: by the other address book", number)
    book = number % 2  # the same address book may have the person twice
    other = world.entry(person, [person.main], book=book, day=2, job_title=f"Other {person.number}")
    if number % 3 == 0:
        world.act(3, person, lambda stage: stage.edit(stage.ours(owner.key), Title="Corrected"))
    world.gone(owner, 3)
    world.again(other, 4, Expected())
    world.holds(person, **{KEY: other.key})
    if number % 3:
        world.holds(person, Title=f"Other {person.number}")


def released_and_not_overwritten(world: LabelledWorld, number: int) -> None:
    """A released Lead of Bob: Ada, who has his address in her entry, is somebody else."""
    bob, entry = _created(world, "takeover: released, and not overwritten", 1)
    world.gone(entry, 2)
    ada = world.person("takeover: not of somebody else's record", "Mary", domain=bob.domain)
    if number % 2:
        world.entry(ada, [bob.main], COVERED, book=1, day=3)
    else:
        world.entry(ada, [ada.main, bob.main], book=1, day=3, foreign=[bob.main])
        world.holds(ada, Title=ada.title)
    world.holds(bob, Title=bob.title, FirstName=bob.first, LastName=bob.last)


def gone_and_entered_again(world: LabelledWorld, number: int) -> None:
    """Deleted in the address book and entered again, under a new key."""
    person, entry = _created(world, "takeover: entered again under a new key", number)
    world.gone(entry, 2)
    again = world.entry(person, [person.main], Expected(), book=0, day=3)
    world.change(again, 4, phone=_new_phone(person))
    world.holds(person, Phone=_new_phone(person), **{KEY: again.key})
