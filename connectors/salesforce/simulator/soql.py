"""The subset of SOQL that the simulator understands.

It parses a statement, finds the rows by the indexes, and renders them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from .schema import Field, SObject, normal_id
from .store import Org, Row, Table

MAX_STATEMENT: Final = 100_000
MAX_STRING: Final = 4_000
_MAX_PARENTS: Final = 5

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+)
      | (?P<string>'(?:[^'\\]|\\.)*')
      | (?P<datetime>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,3})?(?:Z|[-+]\d\d:\d\d))
      | (?P<date>\d{4}-\d\d-\d\d)(?![\w:])
      | (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w:])
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)
      | (?P<operator><=|>=|!=|<>|[=<>(),])
      | (?P<bad>.)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES: Final = {
    "n": "\n",
    "N": "\n",
    "r": "\r",
    "R": "\r",
    "t": "\t",
    "T": "\t",
    "b": "\b",
    "B": "\b",
    "f": "\f",
} | {
    "F": "\f",
    '"': '"',
    "'": "'",
    "\\": "\\",
}
_OPERATORS: Final = frozenset(("=", "!=", "<>", "<", ">", "<=", ">="))
_RESERVED: Final = frozenset(
    ("and", "or", "not", "in", "like", "from", "where", "order", "limit", "offset", "select")
)


class SoqlError(Exception):
    """A statement that Salesforce refuses: `code` is its errorCode."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


Token = tuple[str, str, int]  # kind, text, position
Predicate = Callable[[Row], bool]
Getter = Callable[[Row], Any]


@dataclass(slots=True)
class Condition:
    """A compiled condition: its test, and the Ids that the indexes give for it.

    None means that no index helps: every row must be tested.
    """

    test: Predicate
    candidates: Callable[[], Iterable[str] | None]


@dataclass(slots=True)
class Query:
    """A compiled statement. `rows` runs it; `render` makes a row's JSON for an API version."""

    table: Table
    count: bool
    rows: Callable[[], list[Row]]
    render: Callable[[Row, str], dict[str, Any]]


def compile_query(org: Org, statement: str, *, deleted: bool = False) -> Query:
    """Parse and check a statement; `deleted` as queryAll. Raises SoqlError."""
    if len(statement) > MAX_STATEMENT:
        raise SoqlError(
            "MALFORMED_QUERY", "SOQL statements cannot be longer than 100000 characters."
        )
    return _Parser(org, statement).query(deleted)


def _tokens(statement: str) -> list[Token]:
    tokens = []
    for match in _TOKEN.finditer(statement):
        kind = match.lastgroup or "bad"
        if kind == "space":
            continue
        if kind == "bad":
            raise _at(statement, match.start(), f"unexpected token: '{match.group()}'")
        tokens.append((kind, match.group(), match.start()))
    tokens.append(("end", "<EOF>", len(statement)))
    return tokens


def _at(statement: str, position: int, message: str, code: str = "MALFORMED_QUERY") -> SoqlError:
    context = statement[max(0, position - 30) : position + 30]
    marker = " " * min(position, 30) + "^"
    return SoqlError(
        code, f"\n{context}\n{marker}\nERROR at Row:1:Column:{position + 1}\n{message}"
    )


def _unquoted(literal: str) -> str:
    text = literal[1:-1]
    if len(text) > MAX_STRING:
        raise SoqlError(
            "MALFORMED_QUERY", "A string in the WHERE clause cannot be longer than 4000 characters."
        )
    if "\\" not in text:
        return text

    def plain(match: re.Match[str]) -> str:
        try:
            return _ESCAPES[match.group(1)]
        except KeyError:
            raise SoqlError(
                "MALFORMED_QUERY",
                f"Invalid string literal {literal}. Illegal character sequence '{match.group()}' "
                "in string literal.",
            ) from None

    return _ESCAPE.sub(plain, text)


def _like(literal: str) -> re.Pattern[str]:
    parts = []
    for match in re.finditer(r"\\(.)|(.)", literal[1:-1], re.DOTALL):
        escaped, plain = match.groups()
        if escaped is not None:
            if escaped not in "%_":
                escaped = _ESCAPES.get(escaped)
                if escaped is None:
                    raise SoqlError(
                        "MALFORMED_QUERY",
                        f"Illegal character sequence '{match.group()}' in {literal}.",
                    )
            parts.append(re.escape(escaped))
        else:
            parts.append(".*" if plain == "%" else "." if plain == "_" else re.escape(plain))
    return re.compile("".join(parts), re.IGNORECASE | re.DOTALL)


def stamp(moment: datetime) -> str:
    """A moment as Salesforce writes it: 2026-11-24T13:58:02.000+0000. Compares as text."""
    moment = moment.astimezone(UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}+0000"


@dataclass(slots=True)
class _Shape:
    """What to render of one object: its own fields, and what of its parents."""

    fields: list[str]
    parents: dict[str, tuple[str, Table, _Shape]]


class _Parser:
    def __init__(self, org: Org, statement: str) -> None:
        self.org = org
        self.statement = statement
        self.tokens = _tokens(statement)
        self.position = 0

    def query(self, deleted: bool) -> Query:
        self.expect("select")
        paths = self.select_list()
        self.expect("from")
        kind, name, at = self.next()
        table = self.org.tables.get(name) or next(
            (
                table
                for table in self.org.tables.values()
                if table.sobject.name.lower() == name.lower()
            ),
            None,
        )
        if kind != "word" or table is None:
            raise _at(
                self.statement,
                at,
                f"sObject type '{name}' is not supported. If you are attempting to use a custom "
                "object, be sure to "
                "append the '__c' after the entity name. Please reference your WSDL or the "
                "describe call for the "
                "appropriate names.",
                "INVALID_TYPE",
            )
        shape = _Shape([], {})
        for path, where in paths or ():
            self.select(shape, table, path, where)
        condition = None
        if self.accept("where"):
            condition = self.conditions(table)
        order = self.order_by(table) if self.accept("order") else []
        limit = self.whole_number() if self.accept("limit") else None
        offset = self.whole_number() if self.accept("offset") else 0
        kind, text, at = self.next()
        if kind != "end":
            raise _at(self.statement, at, f"unexpected token: '{text}'")
        org = self.org
        shows_deleted = deleted and org.settings.deleted_parents

        def run() -> list[Row]:
            rows = _scan(org, table, condition, deleted)
            for key, descending, nulls_first in reversed(order):
                with_value = sorted(
                    (row for row in rows if key(row) is not None), key=key, reverse=descending
                )
                without = [row for row in rows if key(row) is None]
                rows = without + with_value if nulls_first else with_value + without
            return rows[offset:] if limit is None else rows[offset : offset + limit]

        def render(row: Row, version: str) -> dict[str, Any]:
            base = f"/services/data/v{version}/sobjects/"
            return _render(shape, table, row, base, shows_deleted)

        return Query(table, paths is None, run, render)

    def next(self) -> Token:
        token = self.tokens[self.position]
        if token[0] != "end":
            self.position += 1
        return token

    def peek(self) -> Token:
        return self.tokens[self.position]

    def accept(self, text: str) -> bool:
        kind, found, _ = self.tokens[self.position]
        if kind in ("word", "operator") and found.lower() == text:
            self.position += 1
            return True
        return False

    def expect(self, text: str) -> None:
        _, found, at = self.peek()
        if not self.accept(text):
            raise _at(self.statement, at, f"expecting '{text}', found '{found}'")

    def whole_number(self) -> int:
        kind, text, at = self.next()
        if kind != "number" or not text.isdecimal():
            raise _at(self.statement, at, f"unexpected token: '{text}'")
        return int(text)

    def select_list(self) -> list[tuple[str, int]] | None:
        paths: list[tuple[str, int]] = []
        while True:
            kind, text, at = self.next()
            if kind != "word" or text.lower() in _RESERVED:
                raise _at(self.statement, at, f"unexpected token: '{text}'")
            if text.lower() == "count" and not paths and self.accept("("):
                self.expect(")")
                return None
            paths.append((text, at))
            if not self.accept(","):
                return paths

    def parent(self, table: Table, name: str, at: int) -> tuple[Field, Table]:
        field = table.sobject.relationships.get(name.lower())
        if field is None or field.hidden or field.reference_to is None:
            raise _at(
                self.statement,
                at,
                f"Didn't understand relationship '{name}' in field path. If you are attempting to "
                "use a custom "
                "relationship, be sure to append the '__r' after the custom relationship name. "
                "Please reference your "
                "WSDL or the describe call for the appropriate names.",
                "INVALID_FIELD",
            )
        return field, self.org.tables[field.reference_to]

    def column(self, sobject: SObject, name: str, at: int) -> Field:
        field = sobject.find(name)
        if field is None:
            raise _at(
                self.statement,
                at,
                f"No such column '{name}' on entity '{sobject.name}'. If you are attempting to "
                "use a custom field, be "
                "sure to append the '__c' after the custom field name. Please reference your WSDL "
                "or the describe call "
                "for the appropriate names.",
                "INVALID_FIELD",
            )
        return field

    def select(self, shape: _Shape, table: Table, path: str, at: int) -> None:
        *parents, name = path.split(".")
        if parents and _names_itself(table, parents[0]):
            parents.pop(0)
        if len(parents) > _MAX_PARENTS:
            raise _at(
                self.statement, at, "SELECT statements cannot query more than 5 levels of parents"
            )
        for parent in parents:
            field, target = self.parent(table, parent, at)
            relationship = field.relationship or ""
            if relationship not in shape.parents:
                shape.parents[relationship] = (field.name, target, _Shape([], {}))
            table, shape = target, shape.parents[relationship][2]
        canonical = self.column(table.sobject, name, at).name
        if canonical in shape.fields:
            raise SoqlError("INVALID_FIELD", f"duplicate field selected: {path}")
        shape.fields.append(canonical)

    def resolve(self, table: Table, path: str, at: int) -> tuple[Field, Getter, bool]:
        """The field at the end of a path, how to read it, and whether it is the row's own."""
        *parents, name = path.split(".")
        if parents and _names_itself(table, parents[0]):
            parents.pop(0)
        steps: list[tuple[str, Table]] = []
        for parent in parents:
            field, table = self.parent(table, parent, at)
            steps.append((field.name, table))
        field = self.column(table.sobject, name, at)
        key = field.name
        if not steps:
            return field, lambda row: row.get(key), True

        def read(row: Row) -> Any:
            current: Row | None = row
            for reference, target in steps:
                current = target.rows.get(current.get(reference) or "") if current else None
            return current.get(key) if current else None

        return field, read, False

    def conditions(self, table: Table) -> Condition:
        """One level of conditions: all joined by AND, or all by OR.

        Mixing them takes parentheses.
        """
        parts = [self.condition(table)]
        joined: str | None = None
        while True:
            kind, text, at = self.peek()
            word = text.lower()
            if kind != "word" or word not in ("and", "or"):
                break
            if joined is not None and word != joined:
                raise _at(self.statement, at, f"unexpected token: '{text}'")
            joined = word
            self.position += 1
            parts.append(self.condition(table))
        if len(parts) == 1:
            return parts[0]
        return _all_of(parts) if joined == "and" else _any_of(parts)

    def condition(self, table: Table) -> Condition:
        if self.accept("("):
            inner = self.conditions(table)
            self.expect(")")
            return inner
        if self.accept("not"):
            negated = self.condition(table)
            return Condition(lambda row: not negated.test(row), lambda: None)
        return self.comparison(table)

    def comparison(self, table: Table) -> Condition:
        kind, path, at = self.next()
        if kind != "word" or path.lower() in _RESERVED:
            raise _at(self.statement, at, f"unexpected token: '{path}'")
        field, read, own = self.resolve(table, path, at)
        if not field.filterable:
            raise _at(
                self.statement,
                at,
                f"field '{field.name}' can not be filtered in a query call",
                "INVALID_FIELD",
            )
        kind, operator, at = self.next()
        word = operator.lower()
        if word == "not":
            self.expect("in")
            values = self.value_list(field)
            return Condition(lambda row: _folded(field, read(row)) not in values, lambda: None)
        if word == "in":
            values = self.value_list(field)
            return Condition(
                lambda row: _folded(field, read(row)) in values,
                self.lookup(table, field, values) if own else _everything,
            )
        if word == "like":
            kind, literal, at = self.next()
            if kind != "string":
                raise _at(self.statement, at, f"unexpected token: '{literal}'")
            if field.type in ("id", "reference", "boolean", "double", "date", "datetime"):
                raise SoqlError("INVALID_FIELD", f"invalid operator on {field.type} field")
            matches = _like(literal).fullmatch
            return Condition(
                lambda row: (value := read(row)) is not None and matches(value) is not None,
                _everything,
            )
        if kind != "operator" or operator not in _OPERATORS:
            raise _at(self.statement, at, f"unexpected token: '{operator}'")
        value = self.value(field)
        if operator == "=":
            return Condition(
                lambda row: _folded(field, read(row)) == value,
                self.lookup(table, field, frozenset((value,))) if own else _everything,
            )
        if operator in ("!=", "<>"):
            return Condition(lambda row: _folded(field, read(row)) != value, _everything)
        if value is None or field.type in ("boolean", "id", "reference"):
            raise SoqlError(
                "INVALID_QUERY_FILTER_OPERATOR", f"invalid operator on {field.type} field"
            )
        return Condition(_ordered(operator, field, read, value), _everything)

    def lookup(
        self, table: Table, field: Field, values: frozenset[Any]
    ) -> Callable[[], Iterable[str] | None]:
        if field.name == "Id":
            return lambda: values
        index = table.indexes.get(field.name)
        if index is None or None in values:
            return _everything

        def found() -> set[str]:
            ids: set[str] = set()
            for value in values:
                holders = index.get(value)
                if holders is not None:
                    ids.update(holders)
            return ids

        return found

    def value_list(self, field: Field) -> frozenset[Any]:
        self.expect("(")
        values: list[Any] = []
        add = values.append
        while True:
            add(self.value(field))
            if not self.accept(","):
                break
        self.expect(")")
        return frozenset(values)

    def value(self, field: Field) -> Any:
        """A literal, checked against the field's type, folded for comparison."""
        kind, text, at = self.next()
        wanted = field.type
        if kind == "word" and text.lower() == "null":
            return None
        if kind == "string":
            if wanted in ("boolean", "double", "date", "datetime"):
                raise _at(
                    self.statement,
                    at,
                    f"value of filter criterion for field '{field.name}' must be of type {wanted} "
                    "and should not be "
                    "enclosed in quotes",
                    "INVALID_FIELD",
                )
            plain = _unquoted(text)
            if wanted in ("id", "reference"):
                return self.record_id(field, plain) if plain else None
            return field.fold(plain) if plain else None
        if kind == "number" and wanted == "double":
            return float(text)
        if kind == "date" and wanted == "date":
            return text
        if kind == "datetime" and wanted == "datetime":
            try:
                return stamp(datetime.fromisoformat(text))
            except ValueError:
                raise _at(
                    self.statement, at, f"Invalid date: {text}", "INVALID_QUERY_FILTER_OPERATOR"
                ) from None
        if kind == "word" and wanted == "boolean" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if kind in ("operator", "end", "bad"):
            raise _at(self.statement, at, f"unexpected token: '{text}'")
        quoted = wanted not in ("boolean", "double", "date", "datetime")
        raise _at(
            self.statement,
            at,
            f"value of filter criterion for field '{field.name}' must be of type "
            f"{'string' if quoted else wanted} and "
            f"should {'' if quoted else 'not '}be enclosed in quotes",
            "INVALID_FIELD",
        )

    def record_id(self, field: Field, text: str) -> str:
        normal = normal_id(text)
        if normal is None:
            raise SoqlError("INVALID_QUERY_FILTER_OPERATOR", f"invalid ID field: {text}")
        return normal

    def order_by(self, table: Table) -> list[tuple[Getter, bool, bool]]:
        self.expect("by")
        order = []
        while True:
            kind, path, at = self.next()
            if kind != "word":
                raise _at(self.statement, at, f"unexpected token: '{path}'")
            field, read, _ = self.resolve(table, path, at)
            if not field.filterable:
                raise _at(
                    self.statement,
                    at,
                    f"field '{field.name}' can not be sorted in a query call",
                    "INVALID_FIELD",
                )
            descending = self.accept("desc")
            if not descending:
                self.accept("asc")
            nulls_first = True
            if self.accept("nulls"):
                nulls_first = not self.accept("last")
                if nulls_first:
                    self.expect("first")
            order.append((_sort_key(field, read), descending, nulls_first))
            if not self.accept(","):
                return order


def _names_itself(table: Table, part: str) -> bool:
    """Whether a path begins with the name of the object (Contact.Email).

    A relationship of that name does not count.
    """
    return (
        part.lower() == table.sobject.name.lower()
        and part.lower() not in table.sobject.relationships
    )


def _everything() -> None:
    return None


def _folded(field: Field, value: Any) -> Any:
    return value.lower() if type(value) is str and field.fold is str.lower else value


def _sort_key(field: Field, read: Getter) -> Getter:
    return lambda row: _folded(field, read(row))


def _ordered(operator: str, field: Field, read: Getter, value: Any) -> Predicate:
    compare: dict[str, Callable[[Any], bool]] = {
        "<": lambda found: bool(found < value),
        ">": lambda found: bool(found > value),
        "<=": lambda found: bool(found <= value),
        ">=": lambda found: bool(found >= value),
    }
    holds = compare[operator]
    return lambda row: (found := _folded(field, read(row))) is not None and holds(found)


def _all_of(parts: list[Condition]) -> Condition:
    def candidates() -> Iterable[str] | None:
        for part in parts:
            ids = part.candidates()
            if ids is not None:
                return ids
        return None

    return Condition(lambda row: all(part.test(row) for part in parts), candidates)


def _any_of(parts: list[Condition]) -> Condition:
    def candidates() -> Iterable[str] | None:
        ids: set[str] = set()
        for part in parts:
            some = part.candidates()
            if some is None:
                return None
            ids.update(some)
        return ids

    return Condition(lambda row: any(part.test(row) for part in parts), candidates)


def _scan(org: Org, table: Table, condition: Condition | None, deleted: bool) -> list[Row]:
    hidden = org.hidden
    ids = condition.candidates() if condition is not None else None
    if ids is None:
        rows: Iterable[Row] = table.rows.values()
        if deleted:
            rows = [*rows, *table.bin.values()]
    else:
        # By Id, which is the order of creation: what has no ORDER BY is still the same at each run.
        live = table.rows
        rows = [live[key] for key in sorted(key for key in ids if key in live)]
        if deleted:
            rows.extend(table.bin.values())
    if condition is not None:
        test = condition.test
        rows = [row for row in rows if test(row)]
    if hidden:
        return [row for row in rows if row["Id"] not in hidden]
    return list(rows)


def _render(
    shape: _Shape, table: Table, row: Row, base: str, shows_deleted: bool
) -> dict[str, Any]:
    """A row's JSON. A parent that is deleted is null, unless `shows_deleted`."""
    name = table.sobject.name
    out: dict[str, Any] = {"attributes": {"type": name, "url": f"{base}{name}/{row['Id']}"}}
    get = row.get
    for field in shape.fields:
        out[field] = get(field)
    for relationship, (reference, target, inner) in shape.parents.items():
        key = get(reference) or ""
        parent = target.rows.get(key)
        if parent is None and shows_deleted:
            parent = target.bin.get(key)
        out[relationship] = (
            None if parent is None else _render(inner, target, parent, base, shows_deleted)
        )
    return out
