"""Faults of requests: a queue of scripted ones, and random ones by seed and rate."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from .settings import BadValueError
from .store import RowError, lock_error, row_error

EFFECTS: Final = {
    "status": "answers `status` with `body` (json, html or text) and does nothing",
    "status_after": "does the work, then answers `status`",
    "reset": "cuts the connection and does nothing",
    "cut_after": "does the work, then cuts the connection",
    "hang": "neither works nor answers for `seconds`, then cuts",
    "delay": "waits `seconds` before the work",
    "delay_after": "does the work, then waits `seconds` before the answer",
    "short": "does the work, but leaves the last `count` parts out of a Composite's answer",
    "short_rows": "does the work, but leaves the last `count` rows out of each collection's answer",
    "rows": "fails every `every`th row with `code`, `message` and `fields`",
    "flow": "a flow fails all rows of a collection that is larger than `most` or holds `poison`",
    "expire": "the access token is no longer valid",
}
RATES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "500": ("status", {"status": 500}),
    "503": ("status", {"status": 503}),
    "html": ("status", {"status": 503, "body": "html"}),
    "reset": ("reset", {}),
    "hang": ("hang", {}),
    "delay_after": ("delay_after", {}),
    "cut_after": ("cut_after", {}),
    "500_after": ("status_after", {"status": 500}),
    "short": ("short", {}),
    "short_rows": ("short_rows", {}),
    "expire": ("expire", {}),
}
ROW_RATES: Final = ("lock",)
ROW_EFFECTS: Final = ("rows", "flow")  # these let the request pass and fail rows of it

# As a flow that is triggered by a record's save words them; the error's ID differs each time.
_FLOW_FAILED: Final = (
    "We can't save this record because the “{sobject} Sync” process failed. Give your Salesforce "
    "admin these details. {details} Error ID: 15450643{number:02}-{number:05} (16700{number:05})"
)
_FLOW_LIMIT: Final = (
    "This error occurred when the flow tried to update records: LIMIT_EXCEEDED: "
    "System.LimitException: Too many SOQL queries: 101. You can look up ExceptionCode values in "
    "the SOAP API Developer Guide."
)
_FLOW_BUG: Final = "An error occurred when executing a flow interview."

_TEXTS: Final[dict[int, tuple[str, str]]] = {
    401: ("INVALID_SESSION_ID", "Session expired or invalid"),
    403: ("REQUEST_LIMIT_EXCEEDED", "ConcurrentRequests (Concurrent API Requests) Limit exceeded."),
    420: ("LIMIT_EXCEEDED", "Too many requests"),
    429: ("REQUEST_LIMIT_EXCEEDED", "Too many requests"),
    500: (
        "UNKNOWN_EXCEPTION",
        "An unexpected error occurred. Please include this ErrorId if you contact support: 1 (2)",
    ),
    503: ("SERVER_UNAVAILABLE", "Server is unavailable, retry your request"),
}
_HTML: Final = (
    "<html><head><title>Salesforce</title></head><body><h1>We are down for "
    "maintenance.</h1></body></html>"
)


@dataclass(slots=True)
class Fault:
    """One scripted fault.

    It meets the requests of its kinds whose body holds `contains`, `after` some, `times` times.
    """

    effect: str
    kinds: frozenset[str] | None = None
    times: int | None = 1
    after: int = 0
    contains: str = ""
    status: int = 503
    body: str = "json"
    text: str = ""
    code: str = ""
    message: str = ""
    fields: tuple[str, ...] = ()
    seconds: float = 0.0
    count: int = 1
    every: int = 1
    most: int | None = None
    poison: str = ""
    retry_after: int | None = None

    def response(self) -> tuple[int, str, str, dict[str, str]]:
        """Status, content type, text and headers of the answer that this fault gives."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.body == "html":
            return self.status, "text/html", self.text or _HTML, headers
        if self.body == "text":
            return self.status, "text/plain", self.text, headers
        code, message = _TEXTS.get(
            self.status, ("UNKNOWN_EXCEPTION", "An unexpected error occurred.")
        )
        code, message = self.code or code, self.message or message
        text = self.text or f'[{{"message":"{message}","errorCode":"{code}"}}]'
        return self.status, "application/json", text, headers


_NUMBERS: Final = ("seconds",)
_WHOLE: Final = ("status", "count", "every", "after", "most")
_TEXT_OPTIONS: Final = ("contains", "body", "text", "code", "message", "poison")


def parse_fault(document: Any) -> Fault:
    """A fault of `POST /_sim/faults`. Raises BadValueError naming the value."""
    if not isinstance(document, dict):
        raise BadValueError(f"fault: an object is expected, not {document!r}")
    effect = document.get("effect")
    if effect not in EFFECTS:
        raise BadValueError(f"fault.effect: {effect!r} is not one of {', '.join(EFFECTS)}")
    fault = Fault(effect)
    for name, value in document.items():
        if name == "effect":
            continue
        if name in ("kind", "kinds"):
            names = [value] if isinstance(value, str) else value
            if (
                not isinstance(names, list)
                or not names
                or not all(isinstance(item, str) for item in names)
            ):
                raise BadValueError(
                    f"fault.{name}: a kind or a list of kinds is expected, not {value!r}"
                )
            fault.kinds = None if "*" in names else frozenset(names)
        elif name == "times":
            if value is not None and (type(value) is not int or value < 1):
                raise BadValueError(
                    "fault.times: a whole number from 1 up, or null for ever, is expected, not "
                    f"{value!r}"
                )
            fault.times = value
        elif name == "retry_after":
            if type(value) is not int or value < 0:
                raise BadValueError(f"fault.retry_after: seconds are expected, not {value!r}")
            fault.retry_after = value
        elif name == "fields":
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise BadValueError(f"fault.fields: a list of names is expected, not {value!r}")
            fault.fields = tuple(value)
        elif name in _NUMBERS:
            if type(value) not in (int, float) or value < 0:
                raise BadValueError(f"fault.{name}: a number from 0 up is expected, not {value!r}")
            fault.seconds = float(value)
        elif name in _WHOLE:
            if type(value) is not int or value < (0 if name == "after" else 1):
                raise BadValueError(f"fault.{name}: a whole number is expected, not {value!r}")
            setattr(fault, name, value)
        elif name in _TEXT_OPTIONS:
            if not isinstance(value, str):
                raise BadValueError(f"fault.{name}: a string is expected, not {value!r}")
            setattr(fault, name, value)
        else:
            raise BadValueError(f"fault.{name}: no such option")
    if fault.body not in ("json", "html", "text"):
        raise BadValueError(f"fault.body: {fault.body!r} is not one of json, html, text")
    if effect in ("status", "status_after") and not 200 <= fault.status <= 599:
        raise BadValueError(f"fault.status: an HTTP status is expected, not {fault.status}")
    if effect == "flow" and fault.most is None and not fault.poison:
        raise BadValueError("fault.most: an effect of flow takes `most` or `poison`")
    if effect == "rows" and not fault.code:
        raise BadValueError("fault.code: an effect of rows takes the statusCode of the error")
    return fault


@dataclass(slots=True)
class RandomFaults:
    """At most `limit` faults drawn for the requests of `kinds`, each effect at its rate.

    `lock` is drawn for each row.
    """

    rates: Mapping[str, float]
    random: Random
    kinds: frozenset[str] | None = None
    seconds: float = 1.0
    limit: int | None = None


def parse_random(document: Any) -> RandomFaults | None:
    """The document of `PUT /_sim/faults/random`; no rates switch it off.

    Raises BadValueError naming the value.
    """
    if not isinstance(document, dict):
        raise BadValueError(f"random: an object is expected, not {document!r}")
    unknown = document.keys() - {"seed", "rates", "kinds", "seconds", "limit"}
    if unknown:
        raise BadValueError(f"random.{min(unknown)}: no such option")
    rates = document.get("rates", {})
    if not isinstance(rates, dict):
        raise BadValueError(f"random.rates: an object is expected, not {rates!r}")
    for name, rate in rates.items():
        if name not in RATES and name not in ROW_RATES:
            raise BadValueError(
                f"random.rates.{name}: not one of {', '.join((*RATES, *ROW_RATES))}"
            )
        if type(rate) not in (int, float) or not 0 <= rate <= 1:
            raise BadValueError(f"random.rates.{name}: 0 to 1 is expected, not {rate!r}")
    if sum(rate for name, rate in rates.items() if name in RATES) > 1:
        raise BadValueError("random.rates: the rates of calls add up to more than 1")
    kinds = document.get("kinds")
    if kinds is not None and (
        not isinstance(kinds, list) or not all(isinstance(item, str) for item in kinds)
    ):
        raise BadValueError(f"random.kinds: a list of kinds is expected, not {kinds!r}")
    seed, seconds, limit = (
        document.get("seed", 0),
        document.get("seconds", 1.0),
        document.get("limit"),
    )
    if type(seed) is not int:
        raise BadValueError(f"random.seed: a whole number is expected, not {seed!r}")
    if type(seconds) not in (int, float) or seconds < 0:
        raise BadValueError(f"random.seconds: a number from 0 up is expected, not {seconds!r}")
    if limit is not None and (type(limit) is not int or limit < 0):
        raise BadValueError(f"random.limit: a whole number from 0 up is expected, not {limit!r}")
    if not rates:
        return None
    return RandomFaults(
        rates, Random(seed), None if kinds is None else frozenset(kinds), float(seconds), limit
    )


@dataclass(slots=True)
class Faults:
    """The queue, the random mode, and how often each effect was met."""

    queue: list[Fault] = field(default_factory=list)
    random: RandomFaults | None = None
    met: Counter[str] = field(default_factory=Counter)
    _rows: int = 0

    def take(self, kind: str, raw: bytes) -> list[Fault]:
        """The faults that meet this request: the first that ends it, and every one of `rows`."""
        taken: list[Fault] = []
        for fault in list(self.queue):
            if fault.kinds is not None and kind not in fault.kinds:
                continue
            if fault.contains and fault.contains.encode() not in raw:
                continue
            if fault.effect not in ROW_EFFECTS and any(
                other.effect not in ROW_EFFECTS for other in taken
            ):
                continue
            if fault.after > 0:
                fault.after -= 1
                continue
            if fault.times is not None:
                fault.times -= 1
                if fault.times == 0:
                    self.queue.remove(fault)
            taken.append(fault)
        if not taken and (drawn := self._draw(kind)) is not None:
            taken.append(drawn)
        for fault in taken:
            if fault.effect not in ROW_EFFECTS:
                self.met[fault.effect] += 1
        return taken

    def _draw(self, kind: str) -> Fault | None:
        random = self.random
        if (
            random is None
            or random.limit == 0
            or (random.kinds is not None and kind not in random.kinds)
        ):
            return None
        drawn = random.random.random()
        for name, rate in random.rates.items():
            if name not in RATES:
                continue
            drawn -= rate
            if drawn < 0:
                if random.limit is not None:
                    random.limit -= 1
                effect, options = RATES[name]
                return Fault(effect, seconds=random.seconds, **options)
        return None

    def row_error(self, taken: list[Fault], kind: str) -> RowError | None:
        """The error of the next row under the faults of its request."""
        for fault in taken:
            if fault.effect == "rows":
                self._rows += 1
                if self._rows % fault.every == 0:
                    self.met["rows"] += 1
                    return row_error(fault.code, fault.message or fault.code, fault.fields)
        random = self.random
        if (
            random is not None
            and random.limit != 0
            and (random.kinds is None or kind in random.kinds)
        ):
            rate = random.rates.get("lock", 0)
            if rate and random.random.random() < rate:
                self.met["lock"] += 1
                return lock_error("001000000000000")
        return None

    def collection_error(
        self, taken: list[Fault], sobject: str, records: list[dict[str, Any]]
    ) -> RowError | None:
        """The error of every row of a collection under the faults of its request."""
        for fault in taken:
            if fault.effect != "flow":
                continue
            if fault.most is not None and len(records) > fault.most:
                details = _FLOW_LIMIT
            elif fault.poison and fault.poison in json.dumps(records, ensure_ascii=False):
                details = _FLOW_BUG
            else:
                continue
            self.met["flow"] += 1
            text = fault.message or _FLOW_FAILED.format(
                sobject=sobject, details=details, number=self.met["flow"]
            )
            return row_error(fault.code or "CANNOT_EXECUTE_FLOW_TRIGGER", text)
        return None

    def clear(self) -> None:
        self.queue.clear()
        self.random = None
