"""How engines exchange KV blocks, one adapter per connector: pure functions from a client's body to leg bodies."""
