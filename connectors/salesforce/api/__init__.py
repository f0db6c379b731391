"""The REST API of one Salesforce org: login, calls, budget and errors. It knows no contacts."""
