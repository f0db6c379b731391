"""Lists and changes webhook destinations, and lists grants, through the Nylas SDK.

The SDK (6.18) is used for what it does well: the key, the region, the requests. Its own models are
not: `webhooks.list()` fails on a trigger that it does not know, `create()` and `find()` on a field
that the published schema does not require (by then the destination exists, and its secret, shown
once, is lost), none of them says whether a destination is compressed, and `rotate_secret()` asks at
a path that does not exist. Errors other than Nylas' own reach its caller as they come. A test for
each of these fails once the SDK has mended it.

What is left is `http_client._execute`, the SDK's own way to ask, which is private: the dependency
is pinned to the minor version for it, and SdkMoved says when it is gone.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import nylas
import requests
from nylas.models.errors import NylasApiError, NylasSdkTimeoutError

from connectors.nylas.client import REMEDIES, path_part
from connectors.nylas.destinations import (
    TRIGGERS,
    Destination,
    parse_destination,
    sends_contacts,
)
from connectors.nylas.errors import NotFound, NylasError, Passing, RateLimited, Refused
from connectors.nylas.grants import PAGE_SIZE, Grant, parse_grant

NYLAS_REQUEST_SECONDS = (
    95  # Nylas itself answers 504 after 90; to create a destination it asks ours first
)


@dataclass(frozen=True, slots=True)
class Secret:
    """A destination's signing secret, which Nylas shows once."""

    destination: Destination
    value: str

    def __repr__(self) -> str:
        return f"Secret({self.destination.id})"


@dataclass(frozen=True, slots=True)
class WebhookFinding:
    """Something about a destination that needs a person, and what to do."""

    destination: str
    problem: str
    remedy: str


class SdkMoved(NylasError):
    """The installed SDK lacks the private function that this module calls.

    Nothing was sent, unless the message says so.

    Nothing was asked, unless the message says so.
    """

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the installed nylas {version('nylas')} {what}: install the version that "
            "deploy/requirements.lock names, "
            "or mend connectors/nylas/administration.py"
        )


def transport(sdk: Any) -> Callable[..., Any]:
    """The SDK's private request function, which all of its resources use.

    Raises SdkMoved when it is missing or takes other arguments.

    Raises SdkMoved when it is not there, or takes other arguments.
    """
    execute: Callable[..., Any] | None = getattr(
        getattr(sdk, "http_client", None), "_execute", None
    )
    if execute is None:
        raise SdkMoved("has no http_client._execute")
    try:
        inspect.signature(execute).bind("GET", "/", query_params=None, request_body=None)
    except TypeError as error:
        raise SdkMoved(f"has another http_client._execute ({error})") from error
    return execute


class Administration:
    """The administrative calls to one Nylas application. They block.

    They are not repeated: a person sees the error and tries again.

    They block, and are not repeated: a person sees the error and tries again.

    All of them raise NotFound, Refused, RateLimited, Passing and SdkMoved.
    """

    def __init__(self, api_url: str, api_key: str) -> None:
        self._sdk = nylas.Client(
            api_key=api_key, api_uri=api_url.rstrip("/"), timeout=NYLAS_REQUEST_SECONDS
        )

    def destinations(self) -> list[Destination]:
        """Every webhook destination of the application."""
        return [parse_destination(each) for each in _list(self._call("GET", "/v3/webhooks"))]

    def create(
        self,
        url: str,
        triggers: Sequence[str] = TRIGGERS,
        *,
        compressed: bool,
        description: str = "",
    ) -> Secret:
        """Creates a destination and returns its secret, which Nylas shows once.

        The destination has to answer the challenge of Nylas at once. Raises Refused when it does
        not.
        """
        body = {
            "webhook_url": url,
            "trigger_types": list(triggers),
            "compressed_delivery": compressed,
        }
        return _secret(
            self._call(
                "POST", "/v3/webhooks", body | ({"description": description} if description else {})
            )
        )

    def rotate(self, destination_id: str) -> Secret:
        """Gives a destination a new secret. Nylas signs with it from now on."""
        return _secret(
            self._call("POST", f"/v3/webhooks/rotate-secret/{path_part(destination_id)}", {})
        )

    def grants(self) -> list[Grant]:
        """Every grant of the application, each once, paged by offset until a page is short."""
        found: dict[str, Grant] = {}
        offset = 0
        while True:
            query = {
                "limit": PAGE_SIZE,
                "offset": offset,
                "sort_by": "created_at",
                "order_by": "asc",
            }
            page = [
                parse_grant(each) for each in _list(self._call("GET", "/v3/grants", query=query))
            ]
            found |= {grant.id: grant for grant in page}
            if len(page) < PAGE_SIZE:
                return list(found.values())
            offset += PAGE_SIZE - 1  # overlapping by one, for a grant deleted meanwhile

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> Any:
        """The answer's `data`."""
        execute = transport(self._sdk)
        try:
            answered = execute(method, path, query_params=query, request_body=body)
        except NylasApiError as error:
            raise _api_error(error.status_code, str(error)) from error
        except NylasSdkTimeoutError as error:
            raise Passing(None, f"no answer from Nylas within {NYLAS_REQUEST_SECONDS} s") from error
        except (
            requests.exceptions.JSONDecodeError
        ) as error:  # a subclass of RequestException, and of ValueError
            raise Passing(None, "Nylas answered with a body that is not JSON") from error
        except requests.exceptions.RequestException as error:
            raise Passing(None, f"no answer from Nylas: {type(error).__name__}") from error
        except AttributeError as error:  # an error body whose `error` is a text
            raise Passing(None, "Nylas answered with an error that says nothing") from error
        if not isinstance(answered, tuple) or len(answered) != 2:  # the body and the headers
            raise SdkMoved(
                f"returns something else from http_client._execute ({method} {path} was asked)"
            )
        answer = answered[0]
        if not isinstance(answer, dict) or "data" not in answer:
            raise Passing(200, "Nylas answered 200 with JSON that is no answer")
        return answer["data"]


def check(destinations: Sequence[Destination], url: str | None = None) -> list[WebhookFinding]:
    """Problems of the destinations that contactstream receives contacts through.

    These are the destinations at `url`, or without it those with a contact trigger.
    """
    ours = [one for one in destinations if (one.url == url if url else sends_contacts(one))]
    if not ours:
        return [
            WebhookFinding(
                "", "Nylas has no destination for contacts", "contactstream webhooks create URL"
            )
        ]
    findings = [finding for one in ours for finding in _check_one(one)]
    # Those of another URL may be another program's, which uses the same Nylas application.
    for each in {one.url: None for one in ours}:
        same = [one for one in ours if one.url == each and one.status in ("active", "failing")]
        if len(same) > 1:
            findings.append(
                WebhookFinding(
                    ", ".join(one.id for one in same),
                    f"several destinations send contacts to {each}, and each notification comes "
                    "(and is repeated) once for each of them",
                    "delete all but one in the dashboard",
                )
            )
    return findings


STATUS_REMEDIES = {
    "failing": (
        "95% of what Nylas sent in 15 minutes got no 200; it still sends",
        "see what the bridge answers (contactstream_bridge_requests_total): 401 is a wrong "
        "NYLAS_WEBHOOK_SECRETS or a body that a "
        "proxy has inflated, 503 a broker that is away",
    ),
    "failed": (
        "Nylas has given up and sends nothing; what happened since is never sent",
        "mend what the bridge answers, set the destination active in the dashboard, then: "
        "contactstream reconcile --all",
    ),
    "pause": (
        "somebody paused it; what happens meanwhile is never sent",
        "set the destination active in the dashboard, then: contactstream reconcile --all",
    ),
}


def _check_one(destination: Destination) -> list[WebhookFinding]:
    findings = []
    if destination.status != "active":
        problem, remedy = STATUS_REMEDIES.get(
            destination.status, (f"its status is {destination.status}", "see the dashboard")
        )
        findings.append(WebhookFinding(destination.id, problem, remedy))
    missing = [trigger for trigger in TRIGGERS if trigger not in destination.triggers]
    if missing:
        findings.append(
            WebhookFinding(
                destination.id,
                f"does not listen to {', '.join(missing)}",
                "add the triggers in the dashboard",
            )
        )
    return findings


def _list(data: Any) -> list[Mapping[str, Any]]:
    if not isinstance(data, list) or not all(isinstance(each, dict) for each in data):
        raise Passing(200, "Nylas answered 200 with data that is no list")
    return data


def _secret(data: Any) -> Secret:
    if not isinstance(data, dict) or not data.get("webhook_secret"):
        raise Passing(
            200,
            "Nylas answered 200 without a secret; rotate it to get one: contactstream webhooks "
            "rotate ID",
        )
    return Secret(parse_destination(data), str(data["webhook_secret"]))


def _api_error(status: int, message: str) -> NotFound | Refused | Passing:
    if status == 404:
        return NotFound(f"Nylas answered 404: {message}")
    if status == 429:
        return RateLimited(None)
    if status >= 500:
        return Passing(status, f"Nylas answered {status}: {message}")
    return Refused(status, message, REMEDIES.get(status, ""))
