"""The cluster state that routers share: an event log, folded into a view."""
