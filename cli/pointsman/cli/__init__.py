"""The `pointsman` command: thin, imports lazily."""
