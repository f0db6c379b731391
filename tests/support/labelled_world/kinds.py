"""Makes a labelled world with several people of every kind."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.labelled_world import acts, people
from tests.support.labelled_world.model import LabelledWorld

# How many people (or families) of each kind a world has.
KINDS: dict[Callable[[LabelledWorld, int], object], int] = {
    people.found_by_email: 12,
    people.found_by_converted_lead: 4,
    people.found_by_further_address: 8,
    people.key_of_an_address_book_that_is_gone: 4,
    people.created_as_contact: 9,
    people.created_as_lead: 10,
    people.without_name_created: 3,
    people.fallback_name_in_the_org: 6,
    people.company_as_name: 4,
    people.namesakes_at_two_companies: 6,
    people.entered_twice: 4,
    people.father_and_son: 8,
    people.initial_of_two_people: 6,
    people.family: 8,
    people.mailbox_of_a_typed_person: 8,
    people.known_part_contradicts: 4,
    people.two_records_for_two_addresses: 6,
    people.further_address_of_somebody_else: 8,
    people.office_first_own_address_second: 3,
    people.family_in_the_org: 3,
    people.several_books: 12,
    people.any_addresses_in_any_books: 24,
    people.address_in_a_further_field_of_another: 3,
    people.email_before_further_address: 3,
    people.contact_and_lead: 4,
    people.filler: 4,
    people.ties: 8,
    people.in_the_bin_without_key: 3,
    people.nobody_of_ours: 6,
    people.tombstone_of_a_stranger: 2,
    acts.corrected_title: 4,
    acts.cleared_phone: 4,
    acts.corrected_last_name: 4,
    acts.email_of_the_rep: 4,
    acts.cleared_email: 3,
    acts.other_primary_address: 4,
    acts.absent_in_the_address_book: 3,
    acts.enrichment: 6,
    acts.other_integration_user: 3,
    acts.nobody_edits: 4,
    acts.married: 4,
    acts.edited_before_the_first_sync: 4,
    acts.merged_into_typed: 6,
    acts.merged_into_ours: 4,
    acts.merged_both_ours: 4,
    acts.merged_in_a_chain: 4,
    acts.converted_then_merged: 4,
    acts.merged_then_converted: 3,
    acts.merged_before_the_first_sync: 4,
    acts.merged_then_deleted: 2,
    acts.deleted_by_an_admin: 4,
    acts.deleted_and_in_other_books: 4,
    acts.deleted_and_purged: 4,
    acts.deleted_owner_of_several_books: 2,
    acts.undeleted: 3,
    acts.deleted_and_typed_again: 4,
    acts.converted_to_a_new_contact: 4,
    acts.converted_to_a_typed_contact: 4,
    acts.converted_to_our_contact: 3,
    acts.taken_over: 6,
    acts.released_and_not_overwritten: 4,
    acts.gone_and_entered_again: 3,
}


def labelled_world(
    seed: int, contacts: int = 0, *, lead_mapping: bool = True, person_accounts: bool = False
) -> LabelledWorld:
    """A world of every kind; `contacts` is how many the first day has at least.

    What is missing is filled with people who are found by their email, or created.
    """
    world = LabelledWorld(seed, lead_mapping, person_accounts)
    if person_accounts:
        people.person_accounts(world)
    people.same_names(world)
    people.role_like_people(world)
    people.sub_domains(world)
    people.free_mail(world)
    for kind, count in KINDS.items():
        for number in range(count):
            kind(world, number)
    # after the daily sweep of day 3 and before the changes of day 4
    world.act(4, world.people[-1], lambda stage: stage.empty_recycle_bin())
    number = 0
    while len(world.changes[1]) < contacts:
        plain = (people.found_by_email, people.created_as_contact, people.created_as_lead)
        plain[number % 3](world, number)
        number += 1
    return world
