"""What the router reads from strangers, fed with anything: `make fuzz`. The corpus is replayed by the tests."""
