"""What `bentoml containerize` makes the image from: base, and a folder for the state."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bentoml.images import Image

from bento_selfheal.config.settings import Settings
from bento_selfheal.internals import CONTAINERIZED

IN_CONTAINER = CONTAINERIZED in os.environ  # set in BentoML's images
STATE = Path("/state")
"""Where a container's volume is mounted, with BENTOML_HOME naming it: the store, thresholds and
snapshots all lie below."""


def container_image(settings: Settings) -> Image:
    """A slim Python without compilers, which no package needs, with a state folder of its user's.

    A volume that is mounted for the first time takes the folder's owner over.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    # BentoML's "debian" would install compilers; "custom" installs nothing.
    image = Image(
        base_image=settings.base_image or f"python:{version}-slim",
        distro="custom",
        python_version=version,
    )
    return image.run(f"install -d -m 750 -o bentoml -g bentoml {STATE}")


def goes_with_container(folder: Path) -> bool:
    """Whether what is written to an existing folder is gone when this container is."""
    return IN_CONTAINER and folder.stat().st_dev == Path("/").stat().st_dev


def replace_dead_processes() -> None:
    """Have BentoML start a dead process anew in a container too, as it does elsewhere.

    There it would end the whole server some seconds after its only runner died, and go on without
    a word with one worker less.
    """
    os.environ.pop(CONTAINERIZED, None)
