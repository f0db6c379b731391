"""The REST API of one Salesforce org: login, calls, daily budget, describes and errors.

The rule of this package: it knows Salesforce and no contacts. It handles sObjects, fields, rows,
statements and answers, whatever they are about. What a person is, which of our fields exist and
what a row stands for is known outside; callers pass in the field names that matter. So nothing here
imports a module of `connectors.salesforce` from outside of this package.
"""
