"""A stand-in for a Salesforce org over HTTP: strict where Salesforce is, with faults and latency.

`World(document)` is the org. `app(world)` serves it inside of a process; `serve(host, port,
world_file)` is a process of its own. It shares no code with the client that it tests.

A world document is JSON. Every key is optional, and every bad value is refused by its name:

    org_id           18 characters; a refreshed sandbox has another one
    settings         see `Settings`: latency_ms_call, latency_ms_row, page_size, daily_limit,
                     version_rule, row_locks, hidden_fields, token_max_calls ...
    auth             client_id, client_secret, username, public_key (PEM), audiences,
                     refresh_token; empty = unchecked; rotate_refresh_token (default false)
    user             fields of the integration user
    fields           {object: {field: options as describe spells them, `values` for picklists, or
                     null to remove it}}; `filterable` false as for a field that Shield encrypts;
                     `indexed` true for one with a custom index, which no describe shows
    record_types     {object: [{name, default}]}
    person_accounts  whether Person Accounts are on (default false)
    duplicate_rules  [{name, sobject, match_on, match_objects, action: Alert or Block, on, message}]
    users, queues    [{field: value}]: users are active Standard users unless they say otherwise;
                     a queue has Id, Name and `sobjects`, the objects that it serves
    permission_sets  {name: [address]}: the users that have it, who are made; see `World.assign`
    automation       {flows, triggers, workflow_rules, assignment_rules}: each a list of rows with
                     the fields of FlowDefinitionView, ApexTrigger, WorkflowRule, AssignmentRule
    accounts, contacts, leads
                     [{field: value}], as they stand in the org: Id where it matters, CreatedById
                     "integration" (default "human"), IsDeleted for the recycle bin, MasterRecordId
                     for what was merged, `_hidden` for what sharing hides from the user,
                     IsConverted and ConvertedContactId for converted Leads

The control plane takes JSON. A bad request is a 400 with `error`:

    GET    /_sim/state           counts by kind, refusals and faults by word (`state`)
    GET    /_sim/writes?after=&limit=
                                 every stored write in its order: seq, sobject, id, key, version,
                                 fields, created, stored_at
    GET    /_sim/refusals        what was refused and why, the first 10,000
    PUT    /_sim/world           another world; counters, tokens and faults start anew
    POST   /_sim/settings        some settings
    POST   /_sim/faults          {"faults": [{effect, kind, times, after, contains ...}]}, see
                                 `faults.EFFECTS`
    PUT    /_sim/faults/random   {seed, rates, kinds, seconds, limit}, see `faults.RATES`
    GET, DELETE  /_sim/faults
    POST   /_sim/clock           {now, frozen, advance_seconds}
    POST   /_sim/tokens/expire
    POST   /_sim/convert         {lead, contact}: a user converts a Lead
    POST   /_sim/merge           {sobject, master, losers, values}: a user merges records; `values`
                                 are what the user took over from the losers
    POST   /_sim/undelete        {sobject, id}
    POST   /_sim/recycle-bin/empty
    GET, POST  /_sim/records/{object}; PATCH, DELETE  /_sim/records/{object}/{id}
                                 as another user of the org

Kinds of calls: token, userinfo, versions, resources, describe, limits, query, query_more,
tooling_query, duplicate_rules, bulk_create, bulk_state, bulk_results, bulk_abort, record_get,
record_create, record_update, record_upsert, collections_create, collections_update,
collections_upsert. A Composite has one kind by what it holds: composite_query, composite_describe
(describes, with or without queries), composite_write,
composite_mixed, composite_other. `unknown` is a path that no resource serves.
"""

from .server import app, serve, state
from .settings import Settings
from .world import HUMAN_USER, INTEGRATION_USER, ORG_ID, World

__all__ = ["HUMAN_USER", "INTEGRATION_USER", "ORG_ID", "Settings", "World", "app", "serve", "state"]
