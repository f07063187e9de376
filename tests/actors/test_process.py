"""What an actor's process does when it has started."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import os, threading
from actors.process import give_way

go_on = threading.Event()
threading.Thread(target=go_on.wait, daemon=True).start()  # as Ray's own, which are there before the actor
threading.Thread(target=give_way).start()  # an actor's code is not on the main thread
for thread in threading.enumerate():
    if thread not in (threading.main_thread(),) and not thread.daemon:
        thread.join()
later = threading.Thread(target=lambda: print(os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
later.start()
later.join()
print(*{os.getpriority(os.PRIO_PROCESS, int(each)) for each in os.listdir("/proc/self/task")})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process has one niceness")
def test_every_thread_gives_way() -> None:
    """Those that were there before, the main one among them, and those that start later."""
    ran = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, timeout=30)
    assert ran.stdout.split() == ["10", "10"]
