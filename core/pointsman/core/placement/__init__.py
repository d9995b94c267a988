"""Placement policies: given the candidates for one stage of a request, pick one. One module per policy."""
