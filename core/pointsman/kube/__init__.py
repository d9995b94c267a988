"""Kubernetes access that the router and the controller share: watched caches, server-side apply, leader election."""
