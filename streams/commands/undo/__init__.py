"""The command undo: puts back what contactstream replaced in Salesforce; `command` runs it."""
