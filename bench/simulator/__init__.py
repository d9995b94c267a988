"""How fast the simulator is, as people run it, and beside Dynamo's replay."""
