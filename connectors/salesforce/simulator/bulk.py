"""Bulk API 2.0 query jobs: /jobs/query."""

from __future__ import annotations

import csv
import io
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

from .schema import make_id
from .soql import SoqlError, compile_query
from .store import CallRefused, Org, Row, Scope

_JOB_PREFIX: Final = "750"
_KEPT_JOBS: Final = 100
_MOST_RECORDS: Final = 250_000  # of a page, where the request names no number
_NOT_FOUND: Final = "The requested resource does not exist"
# What the guide lists as not supported in a bulk query.
_REFUSED_CLAUSES: Final = ("count(", "group by", "offset ", "typeof ")


@dataclass(slots=True)
class Job:
    """A job; its rows, as the REST API renders them, are those of the moment of its creation."""

    id: str
    operation: str
    object: str
    fields: list[str]
    rows: list[Row]
    version: str
    created_by: str
    created: str
    polls_left: int
    aborted: bool = False

    @property
    def state(self) -> str:
        if self.aborted:
            return "Aborted"
        return "InProgress" if self.polls_left > 0 else "JobComplete"

    def info(self) -> dict[str, Any]:
        """What the API says of the job."""
        return {
            "id": self.id,
            "operation": self.operation,
            "object": self.object,
            "createdById": self.created_by,
            "createdDate": self.created,
            "systemModstamp": self.created,
            "state": self.state,
            "concurrencyMode": "Parallel",
            "contentType": "CSV",
            "apiVersion": float(self.version),
            "lineEnding": "LF",
            "columnDelimiter": "COMMA",
        }


@dataclass(slots=True)
class Jobs:
    """The query jobs of an org."""

    jobs: OrderedDict[str, Job] = field(default_factory=OrderedDict)
    created: int = 0

    def create(self, org: Org, body: Any, version: str, scope: Scope) -> dict[str, Any]:
        """Create a job and run it. Raises CallRefused."""
        if not org.settings.bulk_api:
            raise CallRefused(400, "FEATURENOTENABLED", "Async API not enabled")
        if not isinstance(body, dict) or body.get("operation") not in ("query", "queryAll"):
            raise CallRefused(400, "INVALIDJOB", "Operation must be query or queryAll")
        statement = body.get("query")
        if not isinstance(statement, str) or not statement:
            raise CallRefused(400, "INVALIDJOB", "Query must be specified")
        if any(clause in statement.lower() for clause in _REFUSED_CLAUSES):
            raise CallRefused(400, "API_ERROR", "Unsupported clause in a bulk query")
        try:
            query = compile_query(org, statement, deleted=body["operation"] == "queryAll")
        except SoqlError as error:
            raise CallRefused(400, "API_ERROR", error.message) from None
        listed = re.split(r"\bfrom\b", statement, maxsplit=1, flags=re.IGNORECASE)[0]
        selected = [name.strip() for name in listed.strip()[len("select") :].split(",")]
        self.created += 1
        job = Job(
            make_id(_JOB_PREFIX, self.created),
            body["operation"],
            query.table.sobject.name,
            selected,
            [query.render(row, version) for row in query.rows()],
            version,
            scope.user,
            scope.stamp,
            org.settings.bulk_polls,
        )
        self.jobs[job.id] = job
        while len(self.jobs) > _KEPT_JOBS:
            self.jobs.popitem(last=False)
        return job.info() | {"state": "UploadComplete"}

    def info(self, job_id: str) -> dict[str, Any]:
        """What became of a job. Each question brings it nearer to its end. Raises CallRefused."""
        job = self._job(job_id)
        told = job.info()
        job.polls_left -= 1
        return told

    def abort(self, job_id: str) -> dict[str, Any]:
        """Stop a job. Raises CallRefused."""
        job = self._job(job_id)
        job.aborted = True
        return job.info()

    def results(
        self, job_id: str, version: str, locator: str | None, most: str | None
    ) -> tuple[bytes, dict[str, str]]:
        """A page of a complete job as CSV, and its headers. Raises CallRefused."""
        job = self._job(job_id)
        if job.version != version:
            raise CallRefused(409, "INVALIDJOB", "The job was created with another API version")
        if job.state != "JobComplete":
            raise CallRefused(400, "INVALIDJOBSTATE", "The job is not complete")
        start = int(locator) if locator is not None and locator.isdecimal() else 0
        if locator is not None and not 0 < start < len(job.rows):
            raise CallRefused(400, "INVALID_QUERY_LOCATOR", "Invalid locator")
        end = start + (int(most) if most is not None and most.isdecimal() else _MOST_RECORDS)
        page = job.rows[start:end]
        headers = {
            "Sforce-NumberOfRecords": str(len(page)),
            "Sforce-Locator": str(end) if end < len(job.rows) else "null",
        }
        return _csv(job.fields, page), headers

    def _job(self, job_id: str) -> Job:
        job = self.jobs.get(job_id)
        if job is None:
            raise CallRefused(404, "NOT_FOUND", _NOT_FOUND)
        return job


def _csv(fields: list[str], rows: list[Row]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(fields)
    for row in rows:
        writer.writerow([_text(_value(row, name)) for name in fields])
    return text.getvalue().encode()


def _value(row: Row, path: str) -> Any:
    """A field of a rendered row, or of its parents, whatever the case of the path."""
    value: Any = row
    for name in path.split("."):
        value = value or {}
        value = next((value[key] for key in value if key.lower() == name.lower()), None)
    return value


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    # The REST API writes a time with an offset, the Bulk API with a Z.
    return text.removesuffix("+0000") + "Z" if text.endswith(".000+0000") else text
