"""The sink: everything that writes to Salesforce."""
