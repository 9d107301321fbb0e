"""Runs a command and ends it, and all that it started, when the process that asked for it is gone.

A program of its own, which `codesign._processes` starts as the leader of a process group:

    python -I -S _keeper.py DESCRIPTOR COMMAND...

DESCRIPTOR is the reading end of a pipe whose other end only the asking process holds. The end of that process, by
whatever signal, closes it, and the whole group is killed. The exit status is the command's; 128 + N where a signal N
ended it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """On Linux, have the kernel kill this process when `parent`, which must be its parent, is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it was gone before the kernel knew
            os.kill(os.getpid(), signal.SIGKILL)


def main(descriptor: int, command: list[str]) -> int:
    """Run the command; its exit status."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    own = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            os.close(descriptor)
            die_with_parent(own)  # should somebody kill the keeper alone
            for number in (signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)  # Python ignores them, programs do not expect that
            os.execvp(command[0], command)
        except OSError as error:
            os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        finally:
            os._exit(127)

    def watch() -> None:
        while os.read(descriptor, 1):
            pass
        os.killpg(own, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    os._exit(main(int(sys.argv[1]), sys.argv[2:]))
