"""A real server, and clients that begin requests and do not go on."""

from __future__ import annotations

import json
import socket
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from tests.api.serving import serving
from tests.cli.serving import served

QUICK = """
import sys
from lawfit_api.edge import heads
heads.HEAD_SECONDS = 1.0
from lawfit.cli.main import main
main()
"""


def test_half_a_request_is_closed_and_others_are_answered(tmp_path: Path) -> None:
    code = tmp_path / "quick.py"
    code.write_text(QUICK)
    with served([sys.executable, str(code), "--database", str(tmp_path / "x.db")], tmp_path) as address:
        place = (urlsplit(address).hostname, urlsplit(address).port)
        halves = [socket.create_connection(place, timeout=20) for _ in range(300)]
        for each, said in zip(halves, ("", "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Y: ") * 150, strict=True):
            each.sendall(said.encode())
        with urllib.request.urlopen(f"{address}/healthz", timeout=20) as answer:
            assert answer.status == 200
        began = time.monotonic()
        assert not any(_still_open(each) for each in halves)
        assert time.monotonic() - began < 15
        kept = socket.create_connection(place, timeout=20)  # one that asked, and begins another request
        kept.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert kept.recv(4096).startswith(b"HTTP/1.1 200")
        kept.sendall(b"GET /hea")
        assert not _still_open(kept)
        for each in (*halves, kept):
            each.close()


def test_what_is_no_http_is_told_in_the_form_of_all_problems(tmp_path: Path) -> None:
    with serving(tmp_path) as found:
        place = (urlsplit(found.address).hostname, urlsplit(found.address).port)
        for wrong in (b"GET / HTTP/1.1\r\nHost 127.0.0.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00"):  # the last: TLS
            with socket.create_connection(place, timeout=20) as strange:
                strange.sendall(wrong)
                head, _, body = strange.makefile("rb").read().partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 400")
            assert b"Content-Type: application/problem+json" in head
            assert json.loads(body)["status"] == 400


def _still_open(connection: socket.socket) -> bool:
    """Whether the server keeps it, once all that it had to say is read."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return True
    return False
