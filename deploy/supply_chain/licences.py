"""Compares the licences of what the image installs with the list of those that are allowed.

Run by the Python of an environment that has exactly these packages:

    python licences.py licences.toml

The exit status is 1 when a package has another licence, or its exception is out of date.
"""

import sys
import tomllib
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any


def licence_of(package: Distribution) -> str:
    """What the metadata of a package states, in the order of precision.

    The SPDX expression, else the classifiers, else the first line of the free text. Empty when
    there is none of them.
    """
    stated = package.metadata.get_all
    expressions = stated("License-Expression") or ()
    classifiers = [
        each.rpartition(" :: ")[2]
        for each in stated("Classifier") or ()
        if each.startswith("License :: ")
    ]
    texts = [line for text in stated("License") or () for line in text.splitlines()[:1]]
    return next(iter([*expressions, *filter(None, [" AND ".join(classifiers)]), *texts]), "")


def is_allowed(licence: str, allowed: Iterable[str]) -> bool:
    """Whether every part of an AND, and one part of an OR in it, is in the list.

    An OR binds weaker than an AND, unless it stands between parentheses.
    """
    names = set(allowed)

    def known(text: str) -> bool:
        return text.strip() in names

    if "(" not in licence:
        return any(all(map(known, part.split(" AND "))) for part in licence.split(" OR "))
    # The parentheses of a name such as "Mozilla Public License 2.0 (MPL 2.0)", or an expression
    # that a person has to read.
    return known(licence)


def problems(found: Mapping[str, str], rules: Mapping[str, Any]) -> list[str]:
    """A line for each package whose licence nobody has agreed to, and each needless exception."""
    exceptions = rules["exceptions"]
    lines = []
    for name, licence in sorted(found.items()):
        if is_allowed(licence, rules["allowed"]):
            if name in exceptions:
                lines.append(f"{name}: {licence} is allowed; remove its exception")
        elif name not in exceptions:
            lines.append(f"{name}: {licence or 'no licence stated'} is not in licences.toml")
        elif exceptions[name]["found"] != licence:
            expected = exceptions[name]["found"]
            lines.append(f"{name}: its exception is for {expected}, and it is {licence} now")
    gone = sorted(set(exceptions) - set(found))
    return lines + [f"{name}: not installed any more; remove its exception" for name in gone]


def main() -> int:
    """Prints every problem. Returns the exit status."""
    rules = tomllib.loads(Path(sys.argv[1]).read_text())
    found = {each.name.lower(): licence_of(each) for each in distributions()}
    lines = problems(found, rules)
    for line in lines:
        print(line, file=sys.stderr)
    print(f"{len(found)} packages, {len(rules['exceptions'])} exceptions, {len(lines)} problems")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
