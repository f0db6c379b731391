"""The reports and the dashboard for the org: they name what exists, in the words of the API.

No org was at hand to deploy them to, so the tests hold them to the Metadata API Developer Guide
(Report, ReportType, Dashboard) and to the fields of Contact and Lead.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from connectors.salesforce.api.client import API_VERSION
from connectors.salesforce.org_fields import KEY_FIELD
from connectors.salesforce.simulator.schema import standard
from tests.support.paths import ROOT

FOLDER = ROOT / "deploy" / "salesforce"
SOURCE = FOLDER / "reports-app" / "main" / "default"
SHIPPED = FOLDER / "force-app" / "main" / "default" / "objects"
MANIFEST = FOLDER / "manifest" / "reports" / "package.xml"
NAMESPACE = "{http://soap.sforce.com/2006/04/metadata}"

REPORTS = sorted((SOURCE / "reports" / "Contactstream").iterdir())
TYPES = sorted((SOURCE / "reportTypes").iterdir())
DASHBOARD = SOURCE / "dashboards" / "Contactstream" / "Contactstream.dashboard-meta.xml"

# A report type names a lookup by its relationship, without Id [Metadata API: ReportType].
LOOKUPS = {"Owner": "OwnerId", "CreatedBy": "CreatedById", "Account": "AccountId"}

# Words of the enumerations of the Metadata API that are in use here.
OPERATORS = {"equals", "notEqual"}
INTERVALS = {"INTERVAL_LAST30", "INTERVAL_CUSTOM"}
CHARTS = {"Bar", "Column", "ColumnStacked"}
CATEGORIES = {"Contact": "accounts", "Lead": "leads"}


def read(path: Path) -> ElementTree.Element:
    return ElementTree.fromstring(path.read_bytes())


def texts(element: ElementTree.Element, path: str) -> list[str]:
    """The texts of the elements at a path, such as `columns/field`."""
    found = element.iterfind("/".join(f"{NAMESPACE}{step}" for step in path.split("/")))
    return [each.text or "" for each in found]


def name_of(path: Path) -> str:
    return path.name.partition(".")[0]


def columns_of_types() -> dict[str, tuple[str, set[str]]]:
    """By report type as reports name it, its object and its columns."""
    found = {}
    for path in TYPES:
        root = read(path)
        (sobject,) = texts(root, "baseObject")
        fields = texts(root, "sections/columns/field")
        found[f"{name_of(path)}__c"] = sobject, {f"{sobject}${field}" for field in fields}
    return found


def is_in_order(names: Iterable[str]) -> bool:
    listed = list(names)
    return listed == sorted(listed)


@pytest.mark.parametrize("path", TYPES, ids=name_of)
def test_a_report_type_has_fields_of_the_org_or_of_ours(path: Path) -> None:
    root = read(path)
    (sobject,) = texts(root, "baseObject")
    ours = {each.name.partition(".")[0] for each in (SHIPPED / sobject / "fields").iterdir()}
    known = {*standard()[sobject].fields} - ours
    for field in texts(root, "sections/columns/field"):
        assert LOOKUPS.get(field, field) in known | ours, field
    assert set(texts(root, "sections/columns/table")) == {sobject}
    assert texts(root, "category") == [CATEGORIES[sobject]]
    assert texts(root, "deployed") == ["true"], "people who are no administrators use it"


@pytest.mark.parametrize("path", REPORTS, ids=name_of)
def test_a_report_names_columns_of_its_type_and_shows_our_records_only(path: Path) -> None:
    root = read(path)
    (kind,) = texts(root, "reportType")
    sobject, columns = columns_of_types()[kind]
    groups = texts(root, "groupingsDown/field")
    named = [
        *texts(root, "columns/field"),
        *groups,
        *texts(root, "filter/criteriaItems/column"),
        *texts(root, "timeFrameFilter/dateColumn"),
    ]
    assert set(named) <= columns
    assert not set(groups) & set(texts(root, "columns/field")), "refused: grouped and a column"
    first = root.find(f"{NAMESPACE}filter/{NAMESPACE}criteriaItems")
    assert first is not None
    assert (texts(first, "column"), texts(first, "operator"), texts(first, "value")) == (
        [f"{sobject}${KEY_FIELD}"],
        ["notEqual"],
        [""],
    )
    assert set(texts(root, "filter/criteriaItems/operator")) <= OPERATORS
    assert set(texts(root, "timeFrameFilter/interval")) <= INTERVALS
    assert (texts(root, "format"), texts(root, "scope")) == (["Summary"], ["organization"])
    assert len(texts(root, "name")[0]) <= 40, "the most that Salesforce takes"
    assert len(texts(root, "description")[0]) <= 255
    assert is_in_order(each.tag for each in root), "as a retrieve writes them"


def test_there_is_a_report_for_each_question_of_an_administrator() -> None:
    assert {name_of(path) for path in REPORTS} == {
        "Contacts_By_Owner",
        "Contacts_Created_A_Day",
        "Contacts_Without_Account",
        "Leads_By_Owner",
        "Leads_Converted",
        "Leads_Created_A_Day",
    }


def test_the_dashboard_shows_every_report_by_its_own_groups_in_twelve_columns() -> None:
    root = read(DASHBOARD)
    grid = root.find(f"{NAMESPACE}dashboardGridLayout")
    assert grid is not None
    taken: set[tuple[int, int]] = set()
    shown = []
    for place in grid.iterfind(f"{NAMESPACE}dashboardGridComponents"):
        (component,) = place.iterfind(f"{NAMESPACE}dashboardComponent")
        folder, _, report = texts(component, "report")[0].partition("/")
        groups = texts(
            read(SOURCE / "reports" / folder / f"{report}.report-meta.xml"), "groupingsDown/field"
        )
        assert texts(component, "groupingColumn") == groups, report
        assert set(texts(component, "componentType")) <= CHARTS
        assert texts(component, "chartSummary/column") == ["RowCount"]
        assert is_in_order(each.tag for each in component)
        column, row, width, height = (
            int(texts(place, name)[0]) for name in ("columnIndex", "rowIndex", "colSpan", "rowSpan")
        )
        cells = {(x, y) for x in range(column, column + width) for y in range(row, row + height)}
        assert not cells & taken, f"{report} covers another chart"
        assert column + width <= 12
        taken |= cells
        shown.append(report)
    assert sorted(shown) == [name_of(path) for path in REPORTS]
    assert texts(root, "dashboardType") == ["LoggedInUser"], "no user of another org is named"
    assert is_in_order(each.tag for each in root)


def test_the_manifest_lists_every_report_and_the_project_has_their_folder() -> None:
    root = read(MANIFEST)
    assert texts(root, "version") == [API_VERSION]
    listed = {
        texts(kind, "name")[0]: texts(kind, "members")
        for kind in root.iterfind(f"{NAMESPACE}types")
    }
    assert listed == {
        "Dashboard": ["Contactstream", "Contactstream/Contactstream"],
        "Report": ["Contactstream", *(f"Contactstream/{name_of(path)}" for path in REPORTS)],
        "ReportType": [name_of(path) for path in TYPES],
    }
    project = json.loads((FOLDER / "sfdx-project.json").read_text())
    assert {"path": "reports-app"} in project["packageDirectories"]
    default = [each["path"] for each in project["packageDirectories"] if each.get("default")]
    assert default == ["force-app"], "the reports need the fields, so that they come second"
