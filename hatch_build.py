"""Build hook: carry the sample data and the embedded models inside the wheel."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class SampleDataHook(BuildHookInterface):
    """Places `data/` at `dinov2_helpers/data` in the wheel.

    A static `force-include` would also copy the data into editable installs, where the package
    reads them from the checkout and a copy could only go stale.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the folder to the wheel, unless the install is editable.

        Args:
            version: hatchling's name of the build, "standard" or "editable".
            build_data: hatchling's description of the build, changed in place.
        """
        if version != "editable":
            build_data["force_include"]["data"] = "dinov2_helpers/data"
