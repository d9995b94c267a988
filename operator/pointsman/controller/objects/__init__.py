"""Kubernetes objects from values: pure builders, so that the same input is the same object, byte by byte."""
