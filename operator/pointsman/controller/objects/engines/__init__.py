"""How each kind of engine is started: flags as its version of the time knows them, see `docs/operator.md`."""
