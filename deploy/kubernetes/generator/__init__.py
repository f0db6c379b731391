"""Writes the manifests that follow from other parts of the project.

`make docs` calls it: the alerts and topics as objects of their operators, and the Helm chart.
"""
