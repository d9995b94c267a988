"""CustomResourceDefinitions from the models in `pointsman.api.resources`."""
