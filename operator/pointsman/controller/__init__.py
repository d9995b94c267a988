"""The operator: what a ModelService asks for becomes InstancePools, and those become engines."""
