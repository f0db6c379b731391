"""Dedupe: a Faust worker that drops events which change nothing in Salesforce."""
