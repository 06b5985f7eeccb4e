"""The process of one candidate: it answers over a local socket, and harms nobody but itself.

    python -m bento_selfheal.candidates.process ID TAG SOCKET [MODEL]

It loads its model, and answers copies, at a low priority: only requests that somebody waits for are
answered at the priority that the process came with.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

LOWER_BY = 10


def main() -> None:
    """Serve until the parent ends, which closes this process's standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the parent ends it
    candidate, tag, path, *model = sys.argv[1:]
    first: SimpleQueue[Callable[[], None]] = SimpleQueue()
    threading.Thread(target=lambda: first.get()(), daemon=True).start()
    # Of this thread, and of those that it starts; nobody can raise it again.
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWER_BY)
    from bento_selfheal.candidates.serving import serve  # torch comes at the lower priority

    serve(int(candidate), tag, Path(path), "".join(model), first.put)


if __name__ == "__main__":
    main()
