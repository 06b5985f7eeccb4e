"""What `bentoml containerize` builds the image from, and how a bento behaves where it is served."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from bentoml.images import Image

from bento_selfheal.config.settings import Settings
from bento_selfheal.internals import CONTAINERIZED

IN_CONTAINER = CONTAINERIZED in os.environ  # set in BentoML's images
STATE = Path("/state")
"""Where a container's volume is mounted and BENTOML_HOME points. The store, the thresholds and the
snapshots lie below."""


def container_image(settings: Settings) -> Image:
    """A slim Python without compilers, with a state folder that belongs to the service's user.

    A volume takes over the owner of that folder when it is mounted for the first time.
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
    """Whether an existing folder is lost with this container, because it is on no volume."""
    return IN_CONTAINER and folder.stat().st_dev == Path("/").stat().st_dev


def replace_dead_processes() -> None:
    """Let BentoML restart a dead process in a container too, as it does elsewhere.

    Otherwise it would end the whole server some seconds after the only runner died, and silently
    go on without a worker that died.
    """
    os.environ.pop(CONTAINERIZED, None)


def keep_importable(source: Path) -> None:
    """Let the modules of a bento be imported for as long as it is served.

    BentoML takes their folder off the path again once it has imported `service.py`; a model's
    builder is imported later.

    Args:
        source: The bento's `src` folder.
    """
    if str(source) not in sys.path:
        sys.path.append(str(source))


def keep_clean(source: Path) -> None:
    """Leave nothing compiled in a bento that is served from the store.

    Python would write `__pycache__` into it, and an export or an image built from it afterwards
    would carry that along. The processes that BentoML starts from here inherit the variable.

    Args:
        source: The bento's `src` folder.
    """
    if IN_CONTAINER:  # the container's own copy, which nobody takes further
        return
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    for cache in list(source.rglob("__pycache__")):
        shutil.rmtree(cache, ignore_errors=True)
