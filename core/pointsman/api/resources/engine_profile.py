"""EngineProfile: how fast one engine is on one accelerator shape. The same numbers as a profile file holds."""

from typing import Literal

from pointsman.api.profile import EngineProfileFields, EngineProfileFile
from pointsman.api.resources.base import Generation, ObjectMeta, Part, Resource
from pointsman.api.resources.conditions import Conditions
from pointsman.api.resources.names import API_VERSION


class EngineProfileStatus(Part):
    """What is, as the controller sees it."""

    observed_generation: Generation = 0
    """The generation of the spec that this status is about."""
    conditions: Conditions = ()
    """What can be said of it."""


class EngineProfile(Resource):
    """How fast one engine is on one accelerator shape, how much it holds, and where these numbers come from."""

    api_version: Literal["pointsman.io/v1alpha1"] = API_VERSION
    kind: Literal["EngineProfile"] = "EngineProfile"
    metadata: ObjectMeta
    spec: EngineProfileFields
    status: EngineProfileStatus = EngineProfileStatus()

    def to_file(self) -> EngineProfileFile:
        """The profile as a file holds it; `to_profile()` of that is what decisions use."""
        return EngineProfileFile(name=self.metadata.name, **dict(self.spec))

    @classmethod
    def from_file(cls, file: EngineProfileFile) -> "EngineProfile":
        """The resource of a profile file, named as it is."""
        fields = {name: value for name, value in file if name != "name"}
        return cls(metadata=ObjectMeta(name=file.name), spec=EngineProfileFields(**fields))
