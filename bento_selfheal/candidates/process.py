"""The process of one candidate: it answers over a local socket, and harms nobody but itself.

    python -m bento_selfheal.candidates.process ID TAG SOCKET [MODEL]

It loads its model while nobody else wants the core, and answers copies at a low priority: only
requests that somebody waits for are answered at the priority that it came with. See `priority`.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

from bento_selfheal.candidates.priority import begin_idle


def main() -> None:
    """Serve until the parent ends, which closes this process's standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the parent ends it
    candidate, tag, path, *model = sys.argv[1:]
    os.setsid()
    first: SimpleQueue[Callable[[], None]] = SimpleQueue()
    threading.Thread(target=lambda: first.get()(), daemon=True).start()
    begin_idle()
    from bento_selfheal.candidates.serving import serve  # torch is loaded idle

    serve(int(candidate), tag, Path(path), "".join(model), first.put)


if __name__ == "__main__":
    main()
