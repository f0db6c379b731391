"""The count of planted faults, and the list of those that change nothing."""

from pathlib import Path

import pytest

from tests.mutants import report
from tests.mutants.planting import Change, Fault, modules, nearest_tests
from tests.mutants.session import Verdict
from tests.support.paths import ROOT

MODULE = "streams/sink/retry_policy.py"
CHANGES = [Change("backoff", f"return {number}", f"return {number + 1}") for number in range(10)]


def result(
    monkeypatch: pytest.MonkeyPatch, missed: int, accepted: set[Change]
) -> report.ModuleResult:
    faults = [Fault(MODULE, str(number)) for number in range(10)]
    monkeypatch.setattr(Fault, "change", lambda fault: CHANGES[int(fault.name)])
    verdicts = {
        fault: Verdict.SURVIVED if number < missed else Verdict.CAUGHT
        for number, fault in enumerate(faults)
    }
    others = {Fault("another.py", "1"): Verdict.SURVIVED}
    return report.summarize(MODULE, verdicts | others, accepted)


def test_a_module_below_the_bar_is_not_good(monkeypatch: pytest.MonkeyPatch) -> None:
    nine, eight = (result(monkeypatch, missed, set()) for missed in (1, 2))
    assert (nine.faults, nine.caught, nine.percent, nine.good) == (10, 9, 90.0, True)
    assert (eight.missed, eight.percent, eight.good) == (2, 80.0, False)


def test_an_accepted_fault_counts_neither_as_caught_nor_as_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = result(monkeypatch, 2, {CHANGES[0], CHANGES[9]})
    assert (found.caught, found.accepted, found.missed, found.percent) == (8, 1, 1, 800 / 9)
    assert found.unused == (CHANGES[9],), "it was caught: the list need not name it"


def test_each_accepted_fault_has_a_reason_and_names_a_line_of_its_module() -> None:
    for module, changes in report.read_accepted().items():
        assert module in modules()
        text = " ".join(line.strip() for line in (ROOT / module).read_text().splitlines())
        for change in changes:
            assert f"def {change.function}(" in text
            assert change.before in text, f"{module} has no such line any more"
            assert change.before != change.after


def test_every_module_has_tests_of_its_own() -> None:
    assert [module for module in modules() if not (ROOT / module).is_file()] == []
    assert [module for module in modules() if not (ROOT / nearest_tests(module)).is_file()] == []


def test_a_fault_without_a_reason_is_refused(tmp_path: Path) -> None:
    listed = tmp_path / "accepted.toml"
    entry = f'module = "{MODULE}"\nfunction = "f"\nline = "a"\nbecomes = ["b"]\n'
    listed.write_text(f'[[accepted]]\n{entry}reason = " "\n')
    with pytest.raises(KeyError, match="no reason"):
        report.read_accepted(listed)
