"""Runs a command as a process that does not outlive its launcher: `python child.py LAUNCHER_PID COMMAND...`.

A script of its own, so that it starts in milliseconds, and so that no code runs between fork and exec in a process that
may have threads. On Linux the kernel sends SIGTERM to the command when the launcher dies in whatever way; elsewhere the
command goes on to its end.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h; stays set across exec


def main() -> None:
    launcher, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != launcher:  # it died before the line above
            sys.exit(143)
    os.execvp(command[0], command)  # noqa: S606 - replacing this process is the point


if __name__ == "__main__":
    main()
