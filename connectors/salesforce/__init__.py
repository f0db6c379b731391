"""Salesforce: who is there already, what has to change, and the Composite calls that change it."""
