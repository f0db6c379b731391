"""A stand-in for Nylas v3: grants, contacts, webhook destinations and signed deliveries.

It follows the documented wire behaviour, and shares no code with the client that it tests.

    contactstream simulate nylas --listen 127.0.0.1:0 --world world.json

prints `nylas simulator listening on http://127.0.0.1:PORT`. In a test,
`app(World.from_json({...}))` is an aiohttp application.

The world is JSON. Every field is optional, durations are in seconds, and an unknown field is
refused by name:

    {"application_id": "...", "api_key": "...",
     "webhook": {"url": "http://...", "secret": "...", "compressed": false, "id": "...",
                 "trigger_types": ["contact.updated", ...]},
     "grants": [{"id": "...", "email": "...", "provider": "google", "grant_status": "valid",
                 "scope": ["..."], "name": "...", "created_at": 1700000000,
                 "updated_at": 1700000000, "page_lag": 0, "blocked": false, "email_aliases": [],
                 "groups": [{"id": "...", "name": "..."}],
                 "contacts": [{"id": "...", "given_name": "...",
                               "emails": [{"email": "...", "type": "work"}], ...}]}],
     "settings": {"retry_delay": 300, "timeout": 10, "concurrency": 64, "latency": 0,
                  "poll_interval": 0, "contacts_per_second": 200, "grants_per_second": 50,
                  "webhooks_per_second": 50, "error_dialect": "", "google_per_minute": 600,
                  "microsoft_per_10_minutes": 10000, "microsoft_concurrency": 4}}

- The `grant_id`, `object` and `source` (address_book) of a contact are filled in. A contact without
  an `id` gets one.
- `webhook` is one destination that has answered its challenge already. `POST /v3/webhooks` makes
  more, with the challenge.
- `page_lag`: how much older than the events the pages of this grant are (Nylas polls Google every
  five minutes).
- `poll_interval`: how long after a change the event of a Google grant is sent, as one event for all
  changes of a contact since (really 300).
- `retry_delay`: from a failed first attempt to the second, doubled to the third (300 puts the last
  attempt 15 minutes after the first).
- `error_dialect`: "" or "api.", the two ways in which Nylas writes its error types.

The control plane takes JSON and asks for no key. A bad input is a 400 whose `error` names it:

    GET  /_sim/state         grants, contacts, calls by kind and status, destinations, deliveries by
                             status and attempt; ?ids=false leaves out the lists of notification IDs
    GET  /_sim/deliveries    each delivery with the status of every attempt (0: no answer)
    PUT  /_sim/world         another world (as above)
    POST /_sim/settings      changes settings alone
    POST /_sim/contacts      {"grant_id", "upsert": [contact], "patch": [{"id", field: value}],
                              "delete": [id], "move": [{"id", "to", "created_first": false}],
                              "notify": true, "time": null, "wait": false}
    POST /_sim/grants        {"action": "create" | "update" | "expire" | "reauthenticate" |
                              "delete" | "groups", "grant": {...} | "grant_id", "wait": false}
    POST /_sim/notify        {"notifications": [...], "order": "given" | "reversed" | "shuffled",
                              "seed": 0, "sequential": false, "wait": false}
                             each: {"envelope"} or {"object", "type", "time", "id", "source"} or
                             {"raw"} or {"raw_base64"}, and {"gzip": bool, "signature": "good" |
                             "bad" | "missing" | "mock" | "upper", "copies": 1, "same_id": true,
                             "retry": true, "headers": {}, "webhook_id": null}
    POST /_sim/faults        {"rules": [rule], "random": {"seed", "share", "kinds"} | null,
                              "clear": false}; see `faults`
    POST /_sim/clock         {"offset": 3600} or {"at": 1700000000}, with "frozen": true to stop it
"""

from connectors.nylas.simulator.app import app, serve
from connectors.nylas.simulator.world import BadInput, World

__all__ = ["BadInput", "World", "app", "serve"]
