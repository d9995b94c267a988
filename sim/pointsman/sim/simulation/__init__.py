"""A whole cluster in virtual time: engines, routers and the network between them, driven by one queue of events."""
