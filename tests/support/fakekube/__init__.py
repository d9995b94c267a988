"""A Kubernetes API server for tests, on loopback: as strict as the tests need, and able to fail in every way."""
