"""Runs the command of a trainer of the user's own: `python own_run.py MARKER ABOUT COMMAND...`.

A script of its own that needs the standard library alone, so that it runs wherever a backend starts it. What the
command prints goes to `output.log` in the folder of the run; that it began, and that it ended well, to the marker.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

GRACE_SECONDS = 60.0  # from the request to stop to the end without asking


def main() -> int:
    marker, about, command = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
    folder = Path(about["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    marker.write_text(json.dumps({"event": "begun", **about, "command": command}) + "\n", encoding="utf-8")
    asked: list[float] = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(time.monotonic()))
    with (folder / "output.log").open("ab") as output:
        try:
            # Open files are handed on: the claim on the run is one, and lasts as long as the command does.
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, close_fds=False)
        except OSError as error:
            print(f"error: {command[0]} cannot be run: {error.strerror or error}", file=sys.stderr)
            return 1
    code, stopped = wait(process, asked)
    if stopped:
        return 143
    if code < 0:  # end as the command did, so that whoever started this sees the same
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    if code == 0:
        with marker.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": "end", "status": "finished", "tokens": about["tokens"]}) + "\n")
    return code


def wait(process: "subprocess.Popen[bytes]", asked: list[float]) -> tuple[int, bool]:
    """The exit code of the command, and whether it was stopped: it hears once of it, and is ended where it does not.

    One that has come to its end by itself was not, whoever asked for it meanwhile.
    """
    stopped = False
    while True:
        try:
            return process.wait(timeout=0.2), stopped
        except subprocess.TimeoutExpired:
            if asked and not stopped and process.poll() is None:
                stopped = True
                process.terminate()
            if asked and time.monotonic() - asked[0] > GRACE_SECONDS:
                process.kill()


if __name__ == "__main__":
    sys.exit(main())
