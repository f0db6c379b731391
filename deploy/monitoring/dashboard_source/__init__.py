"""The source of the dashboards: `make docs` writes deploy/monitoring/dashboards from it."""
