"""The `bento-selfheal` command, as a list of arguments to start it by."""

from __future__ import annotations

import sys

COMMAND = [sys.executable, "-c", "from bento_selfheal.cli.main import main; main()"]
