"""The Salesforce connector: finds the Contact or Lead of each contact and brings it up to date.

`sync` is the entry point: it resolves a batch of contacts to records, and writes what has changed.
`checkup` examines an org for `contactstream doctor`. `api` is the REST client below both.
"""
