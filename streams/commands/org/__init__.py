"""The command org: which Salesforce org a deployment writes to, and how another one is adopted."""
