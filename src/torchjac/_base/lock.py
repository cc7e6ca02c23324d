"""The lock around the state that PyTorch has once a process, not once a thread: levels of AD, flags of backends.

Code that uses such state holds ``PROCESS_WIDE``, so that plans can be evaluated from several threads.
"""

from __future__ import annotations

import threading

PROCESS_WIDE = threading.RLock()
