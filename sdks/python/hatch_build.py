"""Puts the native library into the wheel and gives the wheel its platform's tag."""

import os
import shutil
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class LibraryHook(BuildHookInterface):
    """Takes the library and the tag from the environment: `cargo xtask package` sets both."""

    def initialize(self, version, build_data):
        """Refuses to make a wheel without a library, unless for an editable install."""
        library = os.environ.get("KIMBERLITE_WHEEL_LIBRARY")
        if not library:
            if version == "editable":
                return
            raise SystemExit(
                "KIMBERLITE_WHEEL_LIBRARY is not set; use `cargo xtask package python`"
            )
        tag = os.environ["KIMBERLITE_WHEEL_PLATFORM"]
        folder = Path(self.root) / "build"
        folder.mkdir(exist_ok=True)
        copy = folder / Path(library).name
        shutil.copy2(library, copy)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{tag}"
        build_data["force_include"][str(copy)] = f"kimberlite/_lib/{copy.name}"
