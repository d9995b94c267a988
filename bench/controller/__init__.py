"""How the operator fares with many ModelServices. The folder is not called `operator`: that would shadow the standard library."""
