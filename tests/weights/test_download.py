"""Downloads from a server in this process: whole, broken off, continued, changed, redirected, refused."""

import contextlib
import errno
import hashlib
import io
import os
import re
import shutil
import threading
import urllib.request
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cascade_lab.errors import InputError
from cascade_lab.weights import download
from cascade_lab.weights.download import fetch

CONTENT = bytes(range(256)) * 5000  # 1.28 MB, more than a chunk
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Serves one file; its fields say how it misbehaves."""

    def __init__(self):
        self.content, self.tag, self.ranges, self.breaks_after = CONTENT, '"v1"', True, None
        self.redirect_headers: dict[str, str] = {}
        self.target, self.length = "", True
        self.asked: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.http.server_port}/"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range")
        self.asked.append((request.path, asked))
        if request.path == "/moved":
            request.send_response(302)
            request.send_header("Location", self.target or "/x.pth")
            for name, value in self.redirect_headers.items():
                request.send_header(name, value)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        if request.path != "/x.pth":
            request.send_error(404)
            return
        begin = 0
        if asked and self.ranges and request.headers.get("If-Range") == self.tag:
            begin = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if begin >= len(self.content):
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{len(self.content)}")
                request.send_header("Content-Length", "0")
                request.end_headers()
                return
            request.send_response(206)
            end = len(self.content)
            request.send_header("Content-Range", f"bytes {begin}-{end - 1}/{end}")
        else:
            request.send_response(200)
        request.send_header("ETag", self.tag)
        if self.length:
            request.send_header("Content-Length", str(len(self.content) - begin))
        request.end_headers()
        stop = len(self.content) if self.breaks_after is None else begin + self.breaks_after
        with contextlib.suppress(OSError):
            request.wfile.write(self.content[begin:stop])
        request.close_connection = True


@pytest.fixture
def server():
    made = Server()
    yield made
    made.close()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def break_off(server: Server, folder: Path, after: int = 300_000) -> None:
    server.breaks_after = after
    with pytest.raises(
        InputError, match=rf"the line broke after {after:,} of 1,280,000 bytes; they are kept"
    ):
        fetch(server.base + "x.pth", folder, "x.pth")
    server.breaks_after = None
    assert (folder / "x.pth.part").read_bytes() == CONTENT[:after]
    assert names(folder) == {"x.pth.part", "x.pth.part.json"}


def test_a_whole_file(server, tmp_path):
    fetched = fetch(server.base + "x.pth", tmp_path / "new" / "folder", "x.pth")
    assert fetched.path.read_bytes() == CONTENT
    assert (fetched.sha256, fetched.known_digest) == (DIGEST, "")
    assert names(fetched.path.parent) == {"x.pth"}


def test_without_a_stated_length(server, tmp_path):
    server.length = False
    assert fetch(server.base + "x.pth", tmp_path, "x.pth").sha256 == DIGEST


def test_it_goes_on_where_the_line_broke(server, tmp_path):
    break_off(server, tmp_path)
    server.breaks_after = 500_000
    with pytest.raises(InputError, match="after 800,000 of"):
        fetch(server.base + "x.pth", tmp_path, "x.pth")
    server.breaks_after = None
    said: list[str] = []
    assert fetch(server.base + "x.pth", tmp_path, "x.pth", say=said.append).sha256 == DIGEST
    assert [asked for _, asked in server.asked] == [None, "bytes=300000-", "bytes=800000-"]
    assert names(tmp_path) == {"x.pth"} and not said


def test_an_interrupt_leaves_the_part(server, tmp_path, monkeypatch):
    class Interrupting(download.tqdm):
        def update(self, n=1):
            raise KeyboardInterrupt

    monkeypatch.setattr(download, "tqdm", Interrupting)
    with pytest.raises(KeyboardInterrupt):
        fetch(server.base + "x.pth", tmp_path, "x.pth")
    assert 0 < (tmp_path / "x.pth.part").stat().st_size < len(CONTENT)
    monkeypatch.undo()
    assert fetch(server.base + "x.pth", tmp_path, "x.pth").sha256 == DIGEST
    assert server.asked[-1][1] is not None


def test_a_file_that_changed_meanwhile_begins_again(server, tmp_path):
    break_off(server, tmp_path)
    server.content, server.tag = CONTENT[::-1], '"v2"'
    said: list[str] = []
    fetched = fetch(server.base + "x.pth", tmp_path, "x.pth", say=said.append)
    assert fetched.path.read_bytes() == CONTENT[::-1]
    assert len(said) == 1 and "another one by now; starting again" in said[0]


def test_a_server_without_ranges_begins_again(server, tmp_path):
    break_off(server, tmp_path)
    server.ranges = False
    said: list[str] = []
    assert fetch(server.base + "x.pth", tmp_path, "x.pth", say=said.append).sha256 == DIGEST
    assert len(said) == 1 and "the server sends whole files only; starting again" in said[0]


def test_a_part_of_another_address_is_not_continued(server, tmp_path):
    break_off(server, tmp_path)
    assert fetch(server.base + "moved", tmp_path, "x.pth", say=lambda _: None).sha256 == DIGEST
    assert [asked for _, asked in server.asked][1:] == [None, None]


def test_a_part_without_its_note_is_not_continued(server, tmp_path):
    (tmp_path / "x.pth.part").write_bytes(b"something else")
    assert fetch(server.base + "x.pth", tmp_path, "x.pth", say=lambda _: None).sha256 == DIGEST


def test_a_part_that_was_complete_needs_no_more_bytes(server, tmp_path):
    break_off(server, tmp_path)
    (tmp_path / "x.pth.part").write_bytes(CONTENT)
    assert fetch(server.base + "x.pth", tmp_path, "x.pth").sha256 == DIGEST
    assert server.asked[-1][1] == f"bytes={len(CONTENT)}-" and names(tmp_path) == {"x.pth"}


def test_a_part_that_is_too_long_begins_again(server, tmp_path):
    break_off(server, tmp_path)
    (tmp_path / "x.pth.part").write_bytes(CONTENT + b"more")
    assert fetch(server.base + "x.pth", tmp_path, "x.pth", say=lambda _: None).sha256 == DIGEST


def test_what_is_there_is_checked_and_not_fetched(server, tmp_path):
    (tmp_path / "x.pth").write_bytes(CONTENT)
    assert fetch(server.base + "x.pth", tmp_path, "x.pth", DIGEST).known_digest == "you"
    with pytest.raises(InputError, match="you stated 0000.*; delete it and fetch it again"):
        fetch(server.base + "x.pth", tmp_path, "x.pth", "0" * 64)
    assert not server.asked and (tmp_path / "x.pth").read_bytes() == CONTENT


# --- SHA-256


def test_another_digest_than_expected_throws_the_file_away(server, tmp_path):
    with pytest.raises(InputError, match=f"SHA-256 is {DIGEST}, you stated f+; it was thrown away"):
        fetch(server.base + "x.pth", tmp_path, "x.pth", "f" * 64)
    assert not names(tmp_path)


def test_the_digest_that_a_redirect_states_is_compared(server, tmp_path):
    server.redirect_headers = {"X-Linked-ETag": f'"{DIGEST}"'}
    assert fetch(server.base + "moved", tmp_path, "x.pth").known_digest == "the server"
    server.redirect_headers = {"X-Linked-ETag": '"' + "0" * 64 + '"'}
    with pytest.raises(InputError, match="the server stated 0000"):
        fetch(server.base + "moved", tmp_path, "y.pth")
    server.redirect_headers = {"X-Linked-ETag": '"no digest"'}
    assert fetch(server.base + "moved", tmp_path, "y.pth").known_digest == ""


def test_redirects_keep_the_range(server, tmp_path):
    server.breaks_after = 100
    with pytest.raises(InputError, match="line broke"):
        fetch(server.base + "moved", tmp_path, "x.pth")
    server.breaks_after = None
    assert fetch(server.base + "moved", tmp_path, "x.pth").sha256 == DIGEST
    assert server.asked[-1] == ("/x.pth", "bytes=100-")


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:,x"])
def test_redirects_to_no_web_address_are_not_followed(server, tmp_path, target):
    server.target = target
    with pytest.raises(InputError, match="not allowed|not followed"):
        fetch(server.base + "moved", tmp_path, "x.pth")
    assert not names(tmp_path)


def test_no_redirect_leads_from_https_to_http():
    follow = download._Redirects().redirect_request
    asked = urllib.request.Request("https://a/x")
    with pytest.raises(InputError, match="not followed"):
        follow(asked, io.BytesIO(), 302, "Found", {}, "http://a/y")
    followed = follow(asked, io.BytesIO(), 302, "Found", {}, "https://b/y")
    assert followed is not None and followed.full_url == "https://b/y"


# --- what goes wrong


def test_404(server, tmp_path):
    with pytest.raises(InputError, match="the server answers 404 Not Found; check the name"):
        fetch(server.base + "y.pth", tmp_path, "y.pth")
    assert not names(tmp_path)


def test_no_network(server, tmp_path):
    base = server.base
    break_off(server, tmp_path)
    server.http.server_close()
    with pytest.raises(InputError, match="cannot be reached .* is there a network.*300,000 bytes are kept"):
        fetch(base + "x.pth", tmp_path, "x.pth")
    with pytest.raises(InputError, match="cannot be reached"):
        fetch("http://no-such-host.invalid/x.pth", tmp_path, "z.pth")


def test_a_full_disk_is_seen_before_the_first_byte(server, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 999, 999))
    with pytest.raises(InputError, match=r"x.pth.part: disk full, 999 bytes free; make room"):
        fetch(server.base + "x.pth", tmp_path, "x.pth")
    assert "x.pth" not in names(tmp_path)


def test_a_disk_that_fills_up_on_the_way_keeps_what_there_is(server, tmp_path, monkeypatch):
    class Full(download.tqdm):
        def update(self, n=1):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(download, "tqdm", Full)
    with pytest.raises(InputError, match=r"disk full.*[\d,]{4,} bytes are kept"):
        fetch(server.base + "x.pth", tmp_path, "x.pth")


@pytest.mark.parametrize("name", ["../x.pth", "/tmp/x.pth", "a/b", "", ".", ".."])
def test_names_that_leave_the_folder(server, tmp_path, name):
    with pytest.raises(InputError, match="would leave|name"):
        fetch(server.base + "x.pth", tmp_path / "in", name)
    assert not names(tmp_path) and not server.asked


@pytest.mark.parametrize("start", ["file:///etc/hostname", "x.pth", "ftp://a/b"])
def test_addresses_that_are_none(tmp_path, start):
    with pytest.raises(InputError, match="not an address"):
        fetch(start, tmp_path, "x.pth")
