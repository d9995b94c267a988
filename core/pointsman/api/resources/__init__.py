"""The custom resources of pointsman.io/v1alpha1 as models: what users write, and what the controller reports."""
