"""What PyTorch keeps once a process, not once a thread: levels of forward-mode AD, flags of backends.

Who uses them holds ``PROCESS_WIDE``, so that plans can be evaluated from several threads.
"""

from __future__ import annotations

import threading

PROCESS_WIDE = threading.RLock()
