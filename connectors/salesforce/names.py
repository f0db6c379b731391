"""Compares the names of two people: pure functions over text, tolerant of how people write names.

The rules, in short:

1. Case, accents, punctuation, honorifics and degrees do not count. `ue` may stand for `ü`.
2. An initial, a nickname, a left-out middle name and a part of a compound surname are tolerated.
3. A part that both names have must not contradict: a tolerant first name does not make up for
   another surname, nor `Jr.` for `Sr.`
4. What cannot be compared (a missing part, another script) is unknown, and contradicts nothing.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from nicknames import NickNamer

# Parsed names, and comparisons, that are kept: those of some batches of 1,000 contacts. The same
# two names are compared several times while a batch is planned.
MAX_REMEMBERED_NAMES = 16_384
# Letters of a Latin word from which on `ue` and `u` count as one spelling. Shorter names differ in
# nothing else: Sue and Su, Joe and Jo.
MIN_UMLAUT_LETTERS = 4
# A word of so many letters at most may be the initials of a first name: JP for Jean-Pierre.
MAX_INITIALS = 3


class NameComparison(IntEnum):
    """What two names say about whether they are one person's; a higher value is a better match."""

    CONTRADICTS = 0
    """A part that both have differs: these are two people."""
    UNKNOWN = 1
    """A name is missing, or only one part can be compared, and that one does not contradict."""
    COMPATIBLE = 2
    """Both parts may be the same: an initial, a nickname, a part of a compound surname."""
    SAME = 3
    """Both parts are equal, apart from case, accents and punctuation."""


class PersonName(NamedTuple):
    """A first and a last name as they were typed; None or blank where unknown."""

    first: str | None = None
    last: str | None = None


def compare_names(
    left: PersonName, right: PersonName, companies: Collection[str] = ()
) -> NameComparison:
    """Compares two names; the order of the two does not matter. Never raises.

    A name that equals one of `companies` says nothing about a person.
    """
    return _compare(left, right, tuple(companies))


@lru_cache(maxsize=MAX_REMEMBERED_NAMES)
def _compare(left: PersonName, right: PersonName, companies: tuple[str, ...]) -> NameComparison:
    one, other = _parsed(left), _parsed(right)
    if companies:
        known = {_parsed(PersonName(last=company)).text for company in companies}
        one, other = (_NOBODY if name.text in known else name for name in (one, other))
    if not one.words or not other.words:
        same_signs = one is not _NOBODY and one.text == other.text != ""
        return NameComparison.SAME if same_signs else NameComparison.UNKNOWN
    found = NameComparison.SAME if one.text == other.text else _compare_words(one, other)
    return min(found, _compare_generations(one.generation, other.generation))


def is_known(name: PersonName) -> bool:
    """Whether any part of the name is known."""
    return bool(_parsed(name).words)


def is_full_name(name: PersonName) -> bool:
    """Whether both parts are known, and the first name is more than initials."""
    parsed = _parsed(name)
    if len(parsed.words) < 2:
        return False
    first = parsed.given or parsed.words
    return len(first[0][0].plain) > 1


# --- parsing ---


class _Token(NamedTuple):
    """A word without accents, and with `ue` for `ü`."""

    plain: str
    german: str


_Word = tuple[_Token, ...]
"""The parts of a hyphenated word; most words have one."""
_Words = tuple[_Word, ...]


@dataclass(frozen=True, slots=True)
class _ParsedName:
    """A name in comparable words. `text` is all of them; without any it is the signs as typed.

    `aliases` stood in brackets or quotation marks. `generation` is `jr`, `sr`, `iii` and the like.
    """

    given: _Words = ()
    family: _Words = ()
    aliases: tuple[_Token, ...] = ()
    generation: str = ""
    text: str = ""

    @property
    def words(self) -> _Words:
        return (*self.given, *self.family)


_NOBODY = _ParsedName()

_HONORIFICS = """
mr mrs ms miss mx dr prof professor sir rev herr frau hr fr mme mlle madame monsieur dott ing dipl
senor senora sr sra srta señor señora
"""
_DEGREES = """
phd dphil md dds dvm esq mba cpa rn jd llm llb bsc msc cfa pmp obe mbe
"""
_PARTICLES = """
de la del della der den van von da di du dos das do le el al bin ibn y e zu zum zur ter ten af av st
"""
HONORIFICS, DEGREES = frozenset(_HONORIFICS.split()), frozenset(_DEGREES.split())
PARTICLES = frozenset(_PARTICLES.split())
GENERATIONS = {
    "jr": "jr", "junior": "jr", "sr": "sr", "senior": "sr",
    "ii": "ii", "iii": "iii", "iv": "iv", "2nd": "ii", "3rd": "iii", "4th": "iv",
}  # fmt: skip
# What people type where they know no name; FNU and LNU are used by US authorities.
PLACEHOLDERS = frozenset(
    {"unknown", "n a", "none", "null", "tbd", "no name", "noname", "not provided",
     "anonymous", "fnu", "lnu"}
)  # fmt: skip
# Words that are no part of a name, or not always.
_UNUSUAL = HONORIFICS | DEGREES | frozenset(GENERATIONS) | PLACEHOLDERS
_ALIAS = re.compile(r"[\"“”„«(\[]([^\"“”„«»()\[\]]*)[\"“”»)\]]")
_SIGNS = re.compile(r"[\W_]+")
_APOSTROPHES = dict.fromkeys(map(ord, "'’‘ʼʻ`´·"))
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"})
_LETTERS = str.maketrans(
    {"ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i", "ħ": "h"}
)
_ACCENTS = re.compile("[\u0300-\u036f]")
_UMLAUT_SPELLING = re.compile("(?<=[aou])e")


@lru_cache(maxsize=MAX_REMEMBERED_NAMES)
def _parsed(name: PersonName) -> _ParsedName:
    if plain := _parsed_plain(name):
        return plain
    first, last = _folded(name.first), _folded(name.last)
    first, last, aliases = _without_aliases(first, last)
    first, last = _in_order(first, last)
    given, family = _words(first), _words(last)
    given, family = _without_honorifics(given, family)
    given, family, generation = _without_suffixes(given, family)
    text = " ".join(token.plain for word in (*given, *family) for token in word)
    signs = "".join((first + last).split())
    return _ParsedName(given, family, aliases, generation, text or signs)


def _parsed_plain(name: PersonName) -> _ParsedName | None:
    """The usual name, of one ASCII word in each field; None for every other one.

    The result is that of `_parsed`, in a tenth of its time.
    """
    first, last = (name.first or "").lower(), (name.last or "").lower()
    if not (first.isalnum() and last.isalnum() and first.isascii() and last.isascii()):
        return None
    if first in _UNUSUAL or last in _UNUSUAL:
        return None
    given, family = ((_Token(first, first),),), ((_Token(last, last),),)
    return _ParsedName(given, family, text=f"{first} {last}")


def _folded(text: str | None) -> str:
    """In lower case and one form of Unicode, with accents. A placeholder or an address is blank."""
    text = text or ""
    if text.isascii():
        folded = text.lower()
    else:
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    plain = " ".join(_SIGNS.sub(" ", folded).split())
    return "" if "@" in folded or plain in PLACEHOLDERS else folded.strip()


def _without_aliases(first: str, last: str) -> tuple[str, str, tuple[_Token, ...]]:
    """Both fields without what stands in brackets or quotation marks, and those words."""
    if not _ALIAS.search(first) and not _ALIAS.search(last):
        return first, last, ()
    aliases: list[_Token] = []
    fields = []
    for field in (first, last):
        kept = _ALIAS.sub(" ", field)
        if kept != field and _words(kept):
            aliases += [
                token for text in _ALIAS.findall(field) for word in _words(text) for token in word
            ]
            field = kept
        fields.append(field)
    return fields[0], fields[1], tuple(aliases)


def _in_order(first: str, last: str) -> tuple[str, str]:
    """First and last name of `Lovelace, Ada`, in whichever field a comma stands."""
    if first.rstrip().endswith(",") and last:
        return last, first
    field = first or last
    if first and last:
        return first, last
    family, comma, given = field.partition(",")
    if comma and family.strip() and any(not _is_suffix(word) for word in _words(given)):
        return given, family
    return first, last


def _words(text: str) -> _Words:
    """The words of a field. Signs that are neither letters nor digits separate them."""
    found: list[_Word] = []
    for raw in text.translate(_APOSTROPHES).replace(",", " ").split():
        compact = raw.replace(".", "")
        pieces = [compact] if compact in DEGREES else raw.replace(".", " ").split()
        for piece in pieces:
            parts = re.split(r"[-‐‑‒–—]+", piece)
            tokens = [token for part in parts for token in _tokens(part)]
            if tokens:
                found.append(tuple(tokens))
    return tuple(found)


def _tokens(text: str) -> Iterator[_Token]:
    if text.isascii() and text.isalnum():
        yield _Token(text, text)
        return
    kept = "".join(
        sign if sign.isalnum() or unicodedata.category(sign).startswith("M") else " "
        for sign in text
        if unicodedata.category(sign) != "Cf"
    )
    for word in kept.split():
        if any(sign.isalnum() for sign in word):
            yield _Token(_without_accents(word), _without_accents(word.translate(_UMLAUTS)))


def _without_accents(word: str) -> str:
    bare = _ACCENTS.sub("", unicodedata.normalize("NFKD", word.translate(_LETTERS)))
    return unicodedata.normalize("NFC", bare)


def _without_honorifics(given: _Words, family: _Words) -> tuple[_Words, _Words]:
    """Without titles in front, as long as a name remains."""
    while given and len(given) + len(family) > 1 and _only(given[0]) in HONORIFICS:
        given = given[1:]
    while not given and len(family) > 1 and _only(family[0]) in HONORIFICS:
        family = family[1:]
    return given, family


def _without_suffixes(given: _Words, family: _Words) -> tuple[_Words, _Words, str]:
    """Without degrees and generation at the end, as long as a name remains; and the generation."""
    family, in_family = _suffix_split(family, kept=0 if given else 1)
    given, in_given = _suffix_split(given, kept=1)
    return given, family, in_family or in_given


def _suffix_split(words: _Words, kept: int) -> tuple[_Words, str]:
    """A field without suffixes, of which at least `kept` words remain; and the generation."""
    generation = ""
    while len(words) > kept and _is_suffix(words[-1]):
        generation = GENERATIONS.get(_only(words[-1]), generation)
        words = words[:-1]
    return words, generation


def _is_suffix(word: _Word) -> bool:
    return _only(word) in DEGREES or _only(word) in GENERATIONS


def _only(word: _Word) -> str:
    return word[0].plain if len(word) == 1 else ""


# --- comparing ---


class _Part(IntEnum):
    """What a comparison of the first names, or of the last names, found."""

    DIFFERENT = 0
    MISSING = 1
    TOLERATED = 2
    EQUAL = 3


class _Reading(NamedTuple):
    """One way to read a name as first and last name.

    `guessed`: the fields say otherwise, so that only equal parts count. `turned`: last name first.
    `cut`: a word of the first name was taken for a part of the last name, which is compared only
    with a name that has one first name: otherwise middle names could not contradict.
    """

    given: _Words
    family: _Words
    guessed: bool = False
    turned: bool = False
    cut: bool = False
    aliases: tuple[_Token, ...] = ()


def _compare_words(one: _ParsedName, other: _ParsedName) -> NameComparison:
    if len(one.words) == len(other.words) == 1:
        if bool(one.given) != bool(other.given):
            return NameComparison.UNKNOWN  # a first name and a last name
        return _verdict(_Reading(one.given, one.family), _Reading(other.given, other.family))
    if one.given and one.family and other.given and other.family:
        as_written = _verdict(next(_readings(one)), next(_readings(other)))
        if as_written >= NameComparison.COMPATIBLE:
            return as_written
    # never empty: the first readings of two names always fit
    return max(
        _verdict(mine, theirs)
        for mine in _readings(one)
        for theirs in _readings(other)
        if _fit(mine, theirs)
    )


def _readings(name: _ParsedName) -> Iterator[_Reading]:
    given, family, words, aliases = name.given, name.family, name.words, name.aliases
    if given and family:
        yield _Reading(given, family, aliases=aliases)
        yield _Reading(family, given, guessed=True, turned=True)
        if len(given) > 1:
            yield _Reading(given[:1], (*given[1:], *family), cut=True, aliases=aliases)
    elif len(words) == 1:
        yield _Reading(words, (), aliases=aliases)
        yield _Reading((), words, aliases=aliases)
    else:
        yield _Reading(given, family, guessed=True)
        yield _Reading(words[:-1], words[-1:], aliases=aliases)
        yield _Reading(words[-1:], words[:-1], guessed=True, turned=True)
        if len(words) > 2:
            yield _Reading(words[:1], words[1:], cut=True, aliases=aliases)


def _fit(one: _Reading, other: _Reading) -> bool:
    """Whether two readings may be compared with each other."""
    if one.turned and other.turned:
        return False
    return not (one.cut and len(other.given) > 1) and not (other.cut and len(one.given) > 1)


def _verdict(one: _Reading, other: _Reading) -> NameComparison:
    given = _compare_part(one.given, other.given, _same_given)
    if given is _Part.DIFFERENT and (_known_as(one, other) or _known_as(other, one)):
        given = _Part.TOLERATED
    family = _compare_part(one.family, other.family, _same_family)
    weaker = min(given, family)
    if weaker is _Part.DIFFERENT:
        return NameComparison.CONTRADICTS
    if one.guessed or other.guessed:
        return _guessed_verdict(one, other, given, family)
    if weaker is _Part.MISSING:
        both_lack = not (one.given or other.given) or not (one.family or other.family)
        equal = both_lack and max(given, family) is _Part.EQUAL
        return NameComparison.SAME if equal else NameComparison.UNKNOWN
    return NameComparison.SAME if weaker is _Part.EQUAL else NameComparison.COMPATIBLE


def _known_as(one: _Reading, other: _Reading) -> bool:
    """Whether an alias of one name is the first name of the other."""
    return any(_one_full_name(alias, other.given[0][0]) for alias in one.aliases)


def _guessed_verdict(one: _Reading, other: _Reading, given: _Part, family: _Part) -> NameComparison:
    if one.turned or other.turned:
        equal = given is family is _Part.EQUAL
        return NameComparison.COMPATIBLE if equal else NameComparison.CONTRADICTS
    parts = {given, family}
    if parts == {_Part.EQUAL}:
        return NameComparison.SAME
    equal = parts == {_Part.EQUAL, _Part.MISSING}
    return NameComparison.UNKNOWN if equal else NameComparison.CONTRADICTS


def _compare_part(one: _Words, other: _Words, tolerated: "_Tolerance") -> _Part:
    if not one or not other:
        return _Part.MISSING
    mine, theirs = _flat(one), _flat(other)
    if _equal_tokens(mine, theirs):
        return _Part.EQUAL
    scripts = {_script(mine), _script(theirs)} - {""}
    if len(scripts) > 1:
        return _Part.MISSING  # nothing here can tell Иван from Ivan, or from Peter
    return _Part.TOLERATED if tolerated(mine, theirs) else _Part.DIFFERENT


_Tokens = tuple[_Token, ...]
_Tolerance = Callable[[_Tokens, _Tokens], bool]
"""Whether two parts that are not equal may be one person's."""


def _flat(words: _Words) -> _Tokens:
    return tuple(token for word in words for token in word)


def _equal_tokens(one: _Tokens, other: _Tokens) -> bool:
    if len(one) == len(other) and all(map(_equal, one, other)):
        return True
    return any(
        "".join(token[form] for token in one) == "".join(token[form] for token in other)
        for form in (0, 1)
    )


def _equal(one: _Token, other: _Token) -> bool:
    return not set(one).isdisjoint(other)


def _spelt_alike(one: _Token, other: _Token) -> bool:
    """Equal, or different only by `ue` for `u`."""
    if _equal(one, other):
        return True
    if min(len(one.plain), len(other.plain)) < MIN_UMLAUT_LETTERS:
        return False
    return _UMLAUT_SPELLING.sub("", one.plain) == _UMLAUT_SPELLING.sub("", other.plain)


def _script(tokens: _Tokens) -> str:
    """The script of the first letter, such as LATIN; empty for digits alone."""
    for token in tokens:
        for sign in token.plain:
            if sign.isalpha():
                return unicodedata.name(sign, "").partition(" ")[0]
    return ""


def _same_given(one: _Tokens, other: _Tokens) -> bool:
    """Whether two different first names may be one person's, with all their middle names."""
    short, long = sorted((one, other), key=len)
    if _follows(short, long) or (len(one) == len(other) and _follows(long, short)):
        return True
    return _initials_of(short, long) or _initials_of(long, short)


def _follows(short: _Tokens, long: _Tokens) -> bool:
    """Whether every name of `short` has its counterpart in `long`, in their order.

    The first one stands for the first one, or in full for a middle name by which a person goes.
    """
    for start, name in enumerate(long):
        fits = _may_be_one if start == 0 else _one_full_name
        if fits(short[0], name) and _all_follow(short[1:], long[start + 1 :]):
            return True
    return False


def _all_follow(short: _Tokens, long: _Tokens) -> bool:
    rest = iter(long)
    return not long or all(any(_may_be_one(name, other) for other in rest) for name in short)


def _may_be_one(one: _Token, other: _Token) -> bool:
    return _one_full_name(one, other) or _is_initial(one, other) or _is_initial(other, one)


def _one_full_name(one: _Token, other: _Token) -> bool:
    return _spelt_alike(one, other) or any(
        _are_nicknames(mine, theirs) for mine in set(one) for theirs in set(other)
    )


def _is_initial(one: _Token, other: _Token) -> bool:
    """Whether `one` is an initial of `other`. A sign without case is a whole name: 王, 이."""
    letter = one.plain
    return len(letter) == 1 and letter.upper() != letter and other.plain.startswith(letter)


def _initials_of(one: _Tokens, other: _Tokens) -> bool:
    """Whether one word is the initials of all names: JP for Jean-Pierre."""
    if len(one) != 1 or not 1 < len(other) == len(one[0].plain) <= MAX_INITIALS:
        return False
    return one[0].plain == "".join(token.plain[0] for token in other)


def _same_family(one: _Tokens, other: _Tokens) -> bool:
    """Whether two different last names may be one: a part of a compound, an initial, a `van`."""
    mine, theirs = _significant(one), _significant(other)
    within, contains = _is_part(mine, theirs), _is_part(theirs, mine)
    if (within and contains) or ((within or contains) and len(mine) != len(theirs)):
        return True
    return any(
        len(initial) == 1 and any(_is_initial(initial[0], name[0]) for name in (full, kept))
        for initial, full, kept in ((one, other, theirs), (other, one, mine))
    )


def _is_part(one: _Tokens, other: _Tokens) -> bool:
    return all(any(_spelt_alike(name, part) for part in other) for name in one)


def _significant(tokens: _Tokens) -> _Tokens:
    return tuple(token for token in tokens if token.plain not in PARTICLES) or tokens


def _compare_generations(one: str, other: str) -> NameComparison:
    if one == other:
        return NameComparison.SAME
    return NameComparison.COMPATIBLE if not one or not other else NameComparison.CONTRADICTS


# --- nicknames ---

# Pairs of the data set, which comes from genealogy, that are two names of today: often of relatives
# who share a mailbox.
_TWO_NAMES = """
aaron-erin adelbert-albert albert-elbert alexander-alexandria alice-lisa amelia-emily
amelia-parmelia andrea-andrew ann-antoinette ann-antonia ann-christiana ann-deanne ann-nancy
anna-bryanna anna-hannah anna-savannah annie-leanne annie-stephanie ashley-leah bert-bob bert-bobby
bill-fred bill-robert billy-fred billy-robert bobby-rodger bobby-roger demaris-mary demerias-mary
earnest-ernestine elaine-eleanor elaine-helen elaine-helena eleanor-ellen eleanor-helena ella-helen
ella-helene ellen-helen ellen-helena ellen-helene eloise-louise emeline-emily emeline-emma
emil-emily emily-emma frederica-frederick fred-will fred-willie genevieve-jean hannah-joanna
hannah-johannah hannah-susan hannah-susannah ian-john jack-jacqueline jane-jean jane-jeanne
jane-jessie jane-virginia janet-jeanette janet-jessie jean-jeanette jeanette-jessie joan-joanna
joan-johannah joe-joshua lawrence-laurinda lois-louise mariah-mary marie-mary marie-rosemary
marietta-mary marilyn-mary marsha-mary mary-rosemary patrick-peter robert-rupert ron-veronica
wilhelmina-willie william-wilma
"""


def _nickname_pairs(excluded: Iterable[str]) -> frozenset[frozenset[str]]:
    lookup = NickNamer.default_lookup()
    pairs = {frozenset((name, short)) for name, shorts in lookup.items() for short in shorts}
    return frozenset(pairs.difference(frozenset(pair.split("-")) for pair in excluded))


_NICKNAMES = _nickname_pairs(_TWO_NAMES.split())


def _are_nicknames(one: str, other: str) -> bool:
    """Whether one is the short form of the other; two short forms of one name are not enough."""
    return frozenset((one, other)) in _NICKNAMES
