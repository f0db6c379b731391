"""Adds our lines to the lead field mapping that was retrieved from an org, and takes none away.

Deploying LeadConvertSettings replaces the whole mapping of the org. So an administrator retrieves
it, lets this script add what the copy of a converted Lead needs, and deploys the result. It needs
only Python: `python3 add_lead_mapping.py retrieved/unpackaged`.
"""

import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

NAMESPACE = "http://soap.sforce.com/2006/04/metadata"
OURS = Path(__file__).parent / "lead-conversion"
SETTINGS = Path("LeadConvertSettings") / "LeadConvertSettings.LeadConvertSetting"


class MappingConflict(Exception):
    """The org maps another field where ours has to go; the text names both."""


def add_lines(retrieved: str, ours: str) -> tuple[str, list[str]]:
    """The retrieved mapping with our lines in its Contact part, and the fields that were added.

    Both texts are files of LeadConvertSettings. Raises MappingConflict, and ParseError for a text
    that is no XML.
    """
    ElementTree.register_namespace("", NAMESPACE)
    # S314: both are files that the administrator has just retrieved, or that we ship
    root, wanted = ElementTree.fromstring(retrieved), ElementTree.fromstring(ours)  # noqa: S314
    contact = _contact_part(root)
    known = _pairs(contact) if contact is not None else []
    missing = [pair for pair in _pairs(_contact_part(wanted)) if pair not in known]
    for source, target in known:
        for field, same_field in missing:
            if source == field or target == same_field:
                raise MappingConflict(
                    f"the org maps Lead.{source} to Contact.{target}, but Lead.{field} has to go "
                    f"to Contact.{same_field}: remove the org's line in Setup, Object Manager, "
                    "Lead, Map Lead Fields, and retrieve again"
                )
    if missing:
        if contact is None:
            contact = _new_contact_part(root)
        _insert(contact, missing)
    ElementTree.indent(root, space="    ")
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n', [field for field, _ in missing]


def _tag(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"


def _contact_part(root: ElementTree.Element) -> ElementTree.Element | None:
    parts = root.iter(_tag("objectMapping"))
    return next((part for part in parts if part.findtext(_tag("outputObject")) == "Contact"), None)


def _pairs(part: ElementTree.Element | None) -> list[tuple[str, str]]:
    """The pairs of a Lead's field and the Contact's field that it goes to."""
    if part is None:
        return []
    return [
        (line.findtext(_tag("inputField"), ""), line.findtext(_tag("outputField"), ""))
        for line in part.iter(_tag("mappingFields"))
    ]


def _new_contact_part(root: ElementTree.Element) -> ElementTree.Element:
    """An empty Contact part behind the other parts; Salesforce expects elements in their order."""
    part = ElementTree.Element(_tag("objectMapping"))
    ElementTree.SubElement(part, _tag("inputObject")).text = "Lead"
    ElementTree.SubElement(part, _tag("outputObject")).text = "Contact"
    before = {_tag("allowOwnerChange"), _tag("objectMapping")}
    root.insert(sum(child.tag in before for child in root), part)
    return part


def _insert(part: ElementTree.Element, pairs: list[tuple[str, str]]) -> None:
    place = [child.tag for child in part].index(_tag("outputObject"))
    for number, (source, target) in enumerate(pairs):
        line = ElementTree.Element(_tag("mappingFields"))
        ElementTree.SubElement(line, _tag("inputField")).text = source
        ElementTree.SubElement(line, _tag("outputField")).text = target
        part.insert(place + number, line)


def main(folder: Path) -> str:
    """Changes the retrieved mapping in a folder; returns what was done.

    A folder without one is of an org that maps nothing: it gets our files as they are. Raises as
    add_lines does, and OSError.
    """
    file = folder / SETTINGS
    if not file.exists():
        shutil.copytree(OURS, folder, dirs_exist_ok=True)
        return "the org has no lead field mapping: ours stands alone"
    text, added = add_lines(file.read_text("utf-8"), (OURS / SETTINGS).read_text("utf-8"))
    if not added:
        return "nothing to add: the org maps all of our fields"
    file.write_text(text, "utf-8")
    return f"added {', '.join(added)}"


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("usage: python3 add_lead_mapping.py FOLDER, the folder that was retrieved")
    try:
        sys.stdout.write(f"{main(Path(sys.argv[1]))}\n")
    except (MappingConflict, ElementTree.ParseError, OSError) as error:
        sys.exit(f"not changed: {error}")
