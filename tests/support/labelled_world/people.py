"""Kinds of people by what the org knows of them before the first sync, and how.

Each function adds one person (or one family) of its kind. `number` counts them within the kind.
"""

from __future__ import annotations

from tests.support.labelled_world.model import (
    AMBIGUOUS,
    COVERED,
    EMAILS,
    KEY,
    ROLE,
    Expected,
    LabelledWorld,
    Person,
    Right,
    Target,
    Verdict,
)

# Names in the org and in the address book that an administrator takes for one person. {} is a
# surname that nobody else has; a dash stands for a part that is missing.
SAME_NAMES: dict[str, list[tuple[tuple[str, str], tuple[str, str]]]] = {
    "case": [(("Ada", "{}"), ("ADA", "{upper}")), (("grace", "{lower}"), ("Grace", "{}"))],
    "diacritics": [
        (("Zoë", "Müller{lower}"), ("Zoe", "Muller{lower}")),
        (("Jose", "Nunez{lower}"), ("José", "Núñez{lower}")),
        (("Łukasz", "{}"), ("Lukasz", "{}")),
        (("Soren", "{}"), ("Søren", "{}")),
        (("François", "Lefèvre{lower}"), ("Francois", "Lefevre{lower}")),
    ],
    "ue for ü": [
        (("Jürgen", "{}"), ("Juergen", "{}")),
        (("Ada", "Müller{lower}"), ("Ada", "Mueller{lower}")),
        (("Bjoern", "{}"), ("Björn", "{}")),
        (("Grace", "Groß{lower}"), ("Grace", "Gross{lower}")),
        (("Ada", "Kaer{lower}"), ("Ada", "Kær{lower}")),
    ],
    "nickname": [
        (("Robert", "{}"), ("Bob", "{}")),
        (("Bill", "{}"), ("William", "{}")),
        (("Elizabeth", "{}"), ("Liz", "{}")),
        (("Katherine", "{}"), ("Kate", "{}")),
        (("Margaret", "{}"), ("Peggy", "{}")),
        (("Dick", "{}"), ("Richard", "{}")),
    ],
    "initials": [
        (("John", "{}"), ("J.", "{}")),
        (("J", "{}"), ("Jane", "{}")),
        (("John Ronald", "{}"), ("J. R.", "{}")),
        (("J.R.R.", "{}"), ("John", "{}")),
        (("Hedy", "{}"), ("H", "{}")),
    ],
    "middle name": [
        (("Ada King", "{}"), ("Ada", "{}")),
        (("Ada", "{}"), ("Ada K.", "{}")),
        (("Grace Brewster Murray", "{}"), ("Grace", "{}")),
        (("Alan", "{}"), ("Alan Mathison", "{}")),
    ],
    "swapped order": [
        (("{}", "Ada"), ("Ada", "{}")),
        (("Yuki", "{}"), ("{}", "Yuki")),
        (("-", "{}, Grace"), ("Grace", "{}")),
        (("Omar", "{}"), ("-", "{}, Omar")),
    ],
    "whole name in one field": [
        (("-", "Ada {}"), ("Ada", "{}")),
        (("Ingrid", "{}"), ("-", "Ingrid {}")),
        (("Niels", "{}"), ("Niels {}", "-")),
    ],
    "compound surname": [
        (("Maria", "García {}"), ("Maria", "García")),
        (("Anna", "Smith-{}"), ("Anna", "{}")),
        (("Anna", "{}"), ("Anna", "{}-Jones")),
        (("Ludwig", "van {}"), ("Ludwig", "{}")),
        (("Jean Luc", "{} Picard"), ("Jean-Luc", "{}-Picard")),
    ],
    "punctuation": [
        (("Sean", "O'{}"), ("Sean", "O’{}")),
        (("Sean", "O{lower}"), ("Sean", "O'{}")),
        (("Jean-Luc", "{}"), ("Jean Luc", "{}")),
    ],
    "honorific": [
        (("Dr. Ada", "{}"), ("Ada", "{}")),
        (("Hans", "{}"), ("Prof. Dr. Hans", "{}")),
        (("Grace", "{}"), ("Grace", "{}, PhD")),
        (("Mr. Alan", "{}"), ("Alan", "{}")),
    ],
    "one part unknown": [
        (("Ada", "{}"), ("Ada", "-")),
        (("Grace", "{}"), ("-", "{}")),
        (("-", "{}"), ("Alan", "{}")),
        (("Radia", "[not provided]"), ("Radia", "{}")),
        (("Radia", "{}"), ("-", "-")),
        (("Sven", "{}"), ("-", "-")),
    ],
}


def _part(pattern: str, surname: str) -> str | None:
    if pattern == "-":
        return None
    return pattern.format(surname, lower=surname.lower(), upper=surname.upper())


def same_names(world: LabelledWorld) -> None:
    """The same person under two forms of the name, found by the primary address."""
    for kind, pairs in SAME_NAMES.items():
        for number, (in_org, in_book) in enumerate(pairs):
            surname = world.surname()
            person = world.person(f"name: {kind}", "Given", surname)
            typed = {
                "FirstName": _part(in_org[0], surname),
                "LastName": _part(in_org[1], surname),
                "Email": world.any_case(person.main),
            }
            record = (world.contact if number % 2 else world.lead)(person, **typed)
            if typed["LastName"] == "[not provided]":
                del world.typed[record, "LastName"]  # no name that anybody typed
            world.entry(
                person,
                [person.main],
                given_name=_part(in_book[0], surname),
                surname=_part(in_book[1], surname),
            )
            world.holds(person, Phone=person.phone, Title=person.title)


def fallback_name_in_the_org(world: LabelledWorld, number: int) -> None:
    person = world.person("fallback name in the org", account=True)
    local = person.main.partition("@")[0]
    last = (local, "[not provided]", person.main)[number % 3]
    fields = {"FirstName": None, "LastName": last, "Email": person.main}
    record = (world.contact if number % 2 else world.lead)(person, **fields)
    del world.typed[record, "LastName"]  # no name that anybody typed
    person.names |= {person.domain}
    world.entry(person, [person.main])
    world.holds(person, Phone=person.phone)


def company_as_name(world: LabelledWorld, number: int) -> None:
    person = world.person("company as name")
    company = f"{person.last} Works"
    if number % 2:
        world.lead(person, FirstName=None, LastName=company, Company=company, Email=person.main)
        world.entry(person, [person.main], company_name=company)
    else:
        world.contact(person, Email=person.main)
        world.entry(person, [person.main], given_name=None, surname=company, company_name=company)
    world.holds(person, Phone=person.phone)


def found_by_email(world: LabelledWorld, number: int) -> None:
    person = world.person("found by email", account=number % 3 == 0)
    typed = {"Email": world.any_case(person.main)}
    if number % 2:
        typed |= {"Title": f"Typed {person.number}", "Phone": f"+44 {person.number}"}
    else:
        world.holds(person, Phone=person.phone, Title=person.title)
    (world.contact if number % 4 < 2 else world.lead)(person, **typed)
    world.entry(person, [person.main, person.alias][: 1 + number % 2])


def found_by_converted_lead(world: LabelledWorld, number: int) -> None:
    person = world.person("found by a converted Lead")
    contact = world.contact(person, Email=f"new.{person.main}")
    world.lead(person, Email=person.main, IsConverted=True, ConvertedContactId=contact)
    world.entry(person, [person.main], Expected(record=contact))
    world.holds(person, person.main, Title=person.title)


def found_by_further_address(world: LabelledWorld, number: int) -> None:
    person = world.person("found by a further address")
    if number % 2:  # a further address of the record
        addresses = {"Email": person.private, EMAILS[1 + number % 4 // 2]: person.main}
        (world.contact if number % 4 < 2 else world.lead)(person, **addresses)
        world.entry(person, [person.main])
    else:  # of the address book
        (world.contact if number % 4 < 2 else world.lead)(person, Email=person.alias)
        world.entry(person, [person.main, person.private, person.alias])
        world.holds(person, person.main)


def key_of_an_address_book_that_is_gone(world: LabelledWorld, number: int) -> None:
    person = world.person("key of an address book that is gone")
    world.contact(
        person,
        Email=person.main,
        CreatedById="integration",
        **{KEY: f"gone/{person.number}", "Nylas_Version__c": 1},
    )
    world.person_of_key[f"gone/{person.number}"] = person
    world.entry(person, [person.main])
    world.holds(person, Phone=person.phone, **{KEY: f"gone/{person.number}"})


def created_as_contact(world: LabelledWorld, number: int) -> None:
    person = world.person("created as Contact", account=True)
    emails = [[person.main], [person.private, person.main], [f"x{person.main}"]][number % 3]
    world.entry(person, emails)
    world.holds(person, emails[0], Phone=person.phone, Title=person.title, LastName=person.last)


def created_as_lead(world: LabelledWorld, number: int) -> None:
    person = world.person("created as Lead")
    entry = world.entry(person, [person.main, person.alias])
    world.holds(person, person.alias, Title=person.title, FirstName=person.first)
    phone = f"{person.phone}9"
    if number % 2:
        world.change(entry, 2, phone=phone)
    world.holds(person, Phone=phone if number % 2 else person.phone)


def without_name_created(world: LabelledWorld, number: int) -> None:
    """The name comes later, and replaces the fallback that we wrote ourselves."""
    person = world.person("created without a name, which comes later")
    entry = world.entry(person, [person.main], given_name=None, surname=None)
    world.change(entry, 2, given_name=person.first, surname=person.last)
    world.holds(person, FirstName=person.first, LastName=person.last)


def namesakes_at_two_companies(world: LabelledWorld, number: int) -> None:
    first, last = "John", world.surname()
    one = world.person("namesake, other company", first, last, domain=f"one-{number}.example")
    other = world.person("namesake, other company", first, last, domain=f"other-{number}.example")
    if number % 2:
        world.contact(one, Email=one.main, Title=f"Typed {one.number}")
    book = world.random.randrange(3)
    world.entry(one, [one.main], book=book)
    world.entry(other, [other.main], book=book if number % 3 else None)
    world.holds(one, Phone=one.phone)
    world.holds(other, Phone=other.phone, Title=other.title)


def entered_twice(world: LabelledWorld, number: int) -> None:
    """One name on one mailbox, twice in one address book."""
    person = world.person("twice in one address book")
    if number % 2:
        world.lead(person, Email=person.main)
    for _ in range(2):
        world.entry(person, [person.main], book=0)


def father_and_son(world: LabelledWorld, number: int) -> None:
    last = world.surname()
    domain = f"{last.lower()}-home.example"
    father = world.person("father and son on one mailbox", "John", f"{last} Sr.", domain=domain)
    son = world.person("father and son on one mailbox", "John", f"{last} Jr.", domain=domain)
    mailbox = f"john.{last.lower()}@{domain}"
    match number % 4:
        case 0:  # the son is not in Salesforce
            world.contact(father, Email=mailbox)
            world.entry(father, [mailbox], book=0)
            world.entry(son, [mailbox], COVERED, book=1)
        case 1:  # both are
            world.contact(father, Email=mailbox)
            world.contact(son, Email=mailbox)
            world.entry(father, [mailbox])
            world.entry(son, [mailbox])
            world.holds(father, Title=father.title)
            world.holds(son, Title=son.title)
        case 2:  # the address book has the suffix in its own field
            world.lead(father, Email=mailbox)
            world.entry(son, [mailbox], COVERED, surname=last, suffix="Jr.")
        case _:  # neither is: whoever comes first
            group = Expected(group=f"{last} and {last}")
            world.entry(father, [mailbox], group, book=0)
            world.entry(son, [mailbox], group, book=0)


def initial_of_two_people(world: LabelledWorld, number: int) -> None:
    """J. Smith, where John and Jane Smith share the mailbox."""
    kind = "J. of John and Jane on one mailbox"
    last = world.surname()
    domain = f"{last.lower()}-home.example"
    john = world.person(kind, "John", last, domain=domain)
    jane = world.person(kind, "Jane", last, domain=domain)
    mailbox = f"smiths@{domain}"
    for person in (john, jane):
        (world.contact if number % 2 else world.lead)(person, Email=mailbox)
    someone = jane if number % 3 else john
    entry = world.entry(someone, [mailbox], AMBIGUOUS, given_name="J.")
    if number % 3 == 1:
        world.change(entry, 3, Expected(wrong=Verdict.MISSED), given_name="Jane")
        world.holds(jane, Title=jane.title)


def family(world: LabelledWorld, number: int) -> None:
    """A shared mailbox. At most one of the family is in Salesforce."""
    last = world.surname() if number % 2 else None
    first = world.random.sample(("Mary", "Peter", "Olga"), 3)
    people = [
        world.person("family on one mailbox", name, last, domain=f"home-{number}.example")
        for name in first[: 2 + number % 2]
    ]
    mailbox = f"family{number}@home-{number}.example"
    if number % 3 == 0:
        (world.contact if number % 2 else world.lead)(people[0], Email=mailbox)
        for place, person in enumerate(people):
            world.entry(person, [mailbox], COVERED if place else None)
        return
    group = Expected(group=f"family {number}", wrong=Verdict.WRONG_OUTCOME)
    for person in people:
        world.entry(person, [mailbox], group, book=None if number % 4 < 2 else number % 3)


def mailbox_of_a_typed_person(world: LabelledWorld, number: int) -> None:
    """A hand-typed John on the mailbox that Mary uses as well."""
    kind = "mailbox of a hand-typed other person"
    john = world.person(kind, "John")
    mary = world.person(kind, "Mary", domain=john.domain)
    office = f"praxis@{john.domain}"
    typed = {"Email": office, **({} if number % 2 else {"Title": f"Typed {john.number}"})}
    (world.contact if number % 4 < 2 else world.lead)(john, **typed)
    entry = world.entry(mary, [office], COVERED, job_title="Head of Mary")
    if number % 3 == 0:  # somebody types Mary in as well
        world.act(3, mary, lambda stage: stage.type_in(mary, "Contact", Email=office))
        world.again(entry, 3, Expected())
        world.holds(mary, Title="Head of Mary")


def known_part_contradicts(world: LabelledWorld, number: int) -> None:
    """Only a part of the name is known, and it is another one."""
    kind = "the known part of the name contradicts"
    grace = world.person(kind, "Grace")
    sven = world.person(kind, "Sven", domain=grace.domain)
    mailbox = f"box@{grace.domain}"
    world.contact(grace, Email=mailbox)
    first, last = (sven.first, None) if number % 2 else (None, sven.last)
    world.entry(sven, [mailbox], COVERED, given_name=first, surname=last)


def two_records_for_two_addresses(world: LabelledWorld, number: int) -> None:
    """Ada has an address of Bob in her entry, and Bob's Contact is the newer one."""
    ada = world.person("entry with the address of a colleague", "Ada", account=True)
    bob = world.person("colleague whose address is in the entry", "Omar", domain=ada.domain)
    table = world.contact if number % 2 else world.lead
    table(ada, Email=ada.main, LastModifiedDate="2020-01-01T00:00:00Z")
    other = world.contact if number % 3 else world.lead
    other(bob, Email=bob.main, LastModifiedDate="2024-01-01T00:00:00Z")
    if number % 2:
        world.entry(bob, [bob.main])
    world.entry(ada, [ada.main, bob.main], foreign=[bob.main])
    world.holds(ada, Title=ada.title, Phone=ada.phone)


def further_address_of_somebody_else(world: LabelledWorld, number: int) -> None:
    """William, who is not in Salesforce, has Ada's address as his home address."""
    ada = world.person("whose home address others have", "Ada")
    kind = "home address is somebody else's"
    william = world.person(kind, "Edsger", account=number % 2 == 0)
    (world.contact if number % 3 else world.lead)(ada, Email=ada.main)
    if number % 4 == 3:
        world.lead(william, Email=william.main)
    world.entry(william, [william.main, ada.main], foreign=[ada.main])
    if number % 2:
        world.entry(ada, [ada.main])
    world.holds(william, william.main, Title=william.title)


def office_first_own_address_second(world: LabelledWorld, number: int) -> None:
    """The primary address is John's, the second one finds Mary."""
    kind = "found by name and a further address, mailbox is another's"
    john = world.person(kind, "Donald")
    mary = world.person(kind, "Mary", domain=john.domain)
    office = f"praxis@{john.domain}"
    world.contact(john, Email=office)
    record = world.contact(mary, Email=mary.main)
    world.entry(mary, [office, mary.main], Expected(record=record))
    world.holds(mary, Title=mary.title)


def family_in_the_org(world: LabelledWorld, number: int) -> None:
    """A shared mailbox of people who are all in Salesforce."""
    last = world.surname()
    for place, first in enumerate(("John", "Jane", "Olga")):
        person = world.person("family in the org", first, last, domain=f"{last.lower()}.example")
        table = world.contact if (number + place) % 2 else world.lead
        record = table(person, Email=f"all@{person.domain}")
        world.entry(person, [f"all@{person.domain}"], Expected(record=record))
        world.holds(person, Title=person.title)


def filler(world: LabelledWorld, number: int) -> None:
    """The second address book fills blanks, and overwrites nothing."""
    person = world.person("owner and filler", account=number % 2 == 0)
    world.entry(person, [person.main], book=0, job_title=None)
    title, phone = f"Filled {person.number}", f"+49 {person.number}"
    world.entry(person, [person.main], book=1, day=2, job_title=title, phone=phone)
    world.holds(person, Title=title, Phone=person.phone)


def several_books(world: LabelledWorld, number: int) -> None:
    """One person in two or three address books, under forms of one name."""
    person = world.person("in several address books", "Robert", account=number % 3 == 0)
    names = ["Robert", "Bob", "Robert"] if number % 2 else ["Robert"] * 3
    if number % 4 == 1:
        (world.contact if number % 8 == 1 else world.lead)(person, Email=person.main)
        names = ["R.", "Bob", "Robert"]  # each of them fits the name in the org
    for book in range(2 + number % 2):
        more = [person.alias] if book else []
        world.entry(person, [person.main, *more], book=book, given_name=names[book])
    world.holds(person, person.main, Title=person.title, Phone=person.phone)


def address_in_a_further_field_of_another(world: LabelledWorld, number: int) -> None:
    """The record of an assistant's boss has her address as a further one."""
    boss = world.person("record with the address of another person", "Donald")
    mary = world.person("address is in the record of another person", "Mary", domain=boss.domain)
    fields = {"Email": boss.main, EMAILS[1 + number % 2]: mary.main}
    (world.contact if number % 2 else world.lead)(boss, **fields)
    world.entry(mary, [mary.main], COVERED)
    world.entry(boss, [boss.main])


def email_before_further_address(world: LabelledWorld, number: int) -> None:
    """Of two records of one person, the one whose Email is the primary address."""
    person = world.person("two records, one by Email and one by a further address")
    table, other = (world.contact, world.lead) if number % 2 else (world.lead, world.contact)
    right = table(person, Email=person.main, LastModifiedDate="2020-01-01T00:00:00Z")
    other(
        person,
        LastModifiedDate="2024-01-01T00:00:00Z",
        **{"Email": person.alias, EMAILS[1]: person.main},
    )
    world.entry(person, [person.main], Expected(record=right))


def contact_and_lead(world: LabelledWorld, number: int) -> None:
    """A Contact and a Lead of one person: the one that was modified last."""
    person = world.person("a Contact and a Lead of one person")
    dates = ["2020-01-01T00:00:00Z", "2024-01-01T00:00:00Z"]
    contact = world.contact(person, Email=person.main, LastModifiedDate=dates[number % 2])
    lead = world.lead(person, Email=person.main, LastModifiedDate=dates[1 - number % 2])
    world.entry(person, [person.main], Expected(record=contact if number % 2 else lead))


def any_addresses_in_any_books(world: LabelledWorld, number: int) -> None:
    """Three addresses in any place, any number of books, any part of the addresses in each."""
    person = world.person("any addresses in any books", account=number % 4 == 0)
    all_three = [person.main, person.alias, f"{person.last.lower()}@work-{person.number}.example"]
    known = number % 2 == 0
    if known:
        places = world.random.sample(EMAILS, 3)
        (world.contact if number % 3 else world.lead)(
            person, **{place: world.any_case(all_three[at]) for at, place in enumerate(places)}
        )
    for book in world.random.sample(range(3), world.random.choice((1, 2, 3))):
        emails = world.random.sample(all_three, world.random.choice((1, 2, 3)))
        if not known and person.main not in emails:  # what the books have in common
            emails[0] = person.main
        world.entry(person, emails, book=book)
    world.holds(person, person.main, Phone=person.phone)


def ties(world: LabelledWorld, number: int) -> None:
    """People made two records of one person: the one with activity, or else the last modified."""
    person = world.person("two records of one person")
    table = world.contact if number % 2 else world.lead
    modified = ["2020-01-01T00:00:00Z", "2024-01-01T00:00:00Z"]
    if number % 4 >= 2:
        modified.reverse()
    ids = [table(person, Email=person.main, LastModifiedDate=date) for date in modified]
    right = ids[modified.index(max(modified))]
    if number >= 4:
        right = ids[modified.index(min(modified))]
        rows = world.document["contacts" if number % 2 else "leads"]
        (row,) = (row for row in rows if row["Id"] == right)
        row["LastActivityDate"] = "2025-05-01"
    world.entry(person, [person.main], Expected(record=right))


ROLE_LIKE = (
    ("b.illing", "Bernd", "Illing"),
    ("p.ress", "Petra", "Ress"),
    ("j.obs", "Jan", "Obs"),
    ("dono.treply", "Dono", "Treply"),
    ("noreplyson", "Nora", "Replyson"),
    ("s.ales", "Sonia", "Ales"),
    ("i.nfo", "Ines", "Nfo"),
    ("officer", "Otto", "Officer"),
)
ROLES = ("billing", "press", "no-reply", "do.not.reply", "donotreply", "noreply", "billing+x")


def role_like_people(world: LabelledWorld) -> None:
    for local, first, last in ROLE_LIKE:
        person = world.person("looks like a role address", first, last)
        world.entry(person, [f"{local}@{person.domain}"])
        world.holds(person, LastName=last, Title=person.title)
    for number, local in enumerate(ROLES):
        nobody = world.person("role address", "Team", domain=f"roles-{number}.example")
        world.entry(nobody, [f"{local}@roles-{number}.example"], ROLE)
        person = world.person("role address beside the own one", domain=f"roles-{number}.example")
        role = f"{local}@roles-{number}.example"
        world.entry(person, [role, person.main], foreign=[role])
        world.holds(person, Email=person.main)


def sub_domains(world: LabelledWorld) -> None:
    """Departments of one registrable domain have Accounts of their own."""
    kind = "sub-domain"
    accounts = {
        host: world.account(f"Department of {host}", f"https://{host}/")
        for host in (
            "dot.ca.gov",
            "dmv.ca.gov",
            "www.bigco.example",
            "labs.bigco.example",
            "shop.sole.example",
            "multi.example",
        )
    }
    parent = accounts["multi.example"]
    world.account("Subsidiary", "http://www.multi.example", ParentId=parent)
    right = {
        "dmv.ca.gov": Target("Contact", accounts["dmv.ca.gov"]),
        "dot.ca.gov": Target("Contact", accounts["dot.ca.gov"]),
        "field.dmv.ca.gov": Target("Contact", accounts["dmv.ca.gov"]),
        "parks.ca.gov": Target("Lead"),
        "bigco.example": Target("Contact", accounts["www.bigco.example"]),
        "mail.bigco.example": Target("Contact", accounts["www.bigco.example"]),
        "labs.bigco.example": Target("Contact", accounts["labs.bigco.example"]),
        "shop.sole.example": Target("Contact", accounts["shop.sole.example"]),
        "sole.example": Target("Contact", accounts["shop.sole.example"]),
        "multi.example": Target("Contact", parent),
    }
    for domain, target in right.items():
        for _ in range(2):
            person = world.person(f"{kind} {domain}", domain=domain)
            world.entry(person, [person.main], Expected(target=target))


def free_mail(world: LabelledWorld) -> None:
    world.account("Gmail Fan Club", "https://www.gmail.com")
    for number in range(6):
        domain = ("gmail.com", "yahoo.com", "gmx.de")[number % 3]
        person = world.person("free mail", domain=domain)
        company = f"Company {person.number}" if number % 2 else None
        # an org with Person Accounts makes a person of a Lead without a company
        nothing = "" if world.person_accounts else "[not provided]"
        target = Target("Lead", company=company or nothing)
        world.entry(person, [person.main], Expected(target=target), company_name=company)


def person_accounts(world: LabelledWorld) -> None:
    """Person Accounts have a website as well, and are nobody else's Account."""
    for number in range(3):
        kind = "website of a Person Account"
        owner = world.person(kind)
        account = world.account(
            f"{owner.first} {owner.last}", f"https://{owner.domain}", IsPersonAccount=True
        )
        if number:
            world.contact(owner, Email=owner.main, AccountId=account, IsPersonAccount=True)
            world.entry(owner, [owner.main])
            world.holds(owner, Title=owner.title)
        person = world.person(kind, domain=owner.domain)
        world.entry(person, [person.main], Expected(target=Target("Lead")))


def in_the_bin_without_key(world: LabelledWorld, number: int) -> None:
    """People deleted a record that was never ours: no reason not to create the person."""
    person = world.person("a record that was never ours was deleted")
    record = world.lead(person, Email=person.main, IsDeleted=True)
    world.entry(person, [person.main], Expected(target=person.target))
    assert (record, "Email") not in world.typed


def nobody_of_ours(world: LabelledWorld, number: int) -> Person:
    """Somebody in the org who is in no address book, and stays as typed."""
    person = world.person("in no address book")
    (world.contact if number % 2 else world.lead)(
        person, Email=person.main, Title=f"Typed {person.number}", Phone=f"+44 {person.number}"
    )
    return person


def tombstone_of_a_stranger(world: LabelledWorld, number: int) -> None:
    """A contact is deleted that was excluded from the start."""
    nobody = world.person("deleted role address", "Team", domain=f"gone-{number}.example")
    entry = world.entry(nobody, [f"sales@gone-{number}.example"], ROLE)
    world.gone(entry, 2)
    assert entry.expected.right is Right.ANY
