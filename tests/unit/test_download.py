"""Fetching files, from a server on loopback that misbehaves as servers and lines do."""

import hashlib
import http.server
import multiprocessing
import socket
import threading
from pathlib import Path

import numpy as np
import pytest

from coala_latent.errors import WeightsError
from coala_latent.weights import download
from coala_latent.weights.download import fetch
from coala_latent.weights.home import downloads_folder, home_folder, models_folder
from coala_latent.weights.transport import Access, DownloadError, read_page, shown

DATA = np.random.default_rng(0).bytes(3 << 20)
SHA = hashlib.sha256(DATA).hexdigest()
OTHER = np.random.default_rng(1).bytes(len(DATA))
QUICK = Access(timeout=5, attempts=3, wait=0.01)


class Server:
    """Answers with `script(handler, request number)`; keeps the requests' headers."""

    def __init__(self):
        self.requests = []
        self.script = serve()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.requests.append((self.path, dict(self.headers)))
                self.close_connection = True
                outer.script(self, len(outer.requests))

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        # Clients that hang up are what is tested.
        self.server.handle_error = lambda request, address: None
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def ranges(self):
        return [headers.get("Range") for _, headers in self.requests]


def serve(data=DATA, *, cut=None, ranges=True, etag='"one"', length=True):
    """A server of one file that closes the line after `cut` bytes of a request."""

    def script(handler, number):
        begin = 0
        wanted = handler.headers.get("Range")
        same = handler.headers.get("If-Range") in (None, etag)
        if ranges and wanted and same:
            begin = int(wanted.removeprefix("bytes=").rstrip("-"))
            if begin >= len(data):
                handler.send_error(416)
                return
        body = data[begin:]
        handler.send_response(206 if begin else 200)
        if begin:
            handler.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        if length:
            handler.send_header("Content-Length", str(len(body)))
        if etag:
            handler.send_header("ETag", etag)
        handler.end_headers()
        handler.wfile.write(body[:cut])

    return script


def then(*scripts):
    """The first request gets the first script, and so on; the last one stays."""
    return lambda handler, number: scripts[min(number, len(scripts)) - 1](handler, number)


def answer(status, **headers):
    def script(handler, number):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return script


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    running = Server()
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "cache" / "weights.h5"


def left_over(target):
    return sorted(path.name for path in target.parent.iterdir() if path.suffix != ".lock")


def test_a_whole_file_arrives_with_its_progress(server, target):
    seen = []
    found = fetch(
        f"{server.address}/a",
        target,
        sha256=SHA.upper(),
        access=QUICK,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert found == SHA
    assert target.read_bytes() == DATA
    assert left_over(target) == ["weights.h5"]
    assert seen[-1] == (len(DATA), len(DATA))
    assert len(seen) > 5
    assert seen == sorted(seen)


def test_a_file_that_is_there_and_right_is_not_fetched_again(server, target):
    for _ in range(2):
        fetch(f"{server.address}/a", target, sha256=SHA, access=QUICK)
    assert len(server.requests) == 1
    fetch(f"{server.address}/a", target, access=QUICK)  # without a hash nobody knows
    assert len(server.requests) == 2
    target.write_bytes(b"damaged")
    fetch(f"{server.address}/a", target, sha256=SHA, access=QUICK)
    assert target.read_bytes() == DATA


def test_a_wrong_hash_shows_both_and_leaves_nothing(server, target):
    server.script = serve(OTHER)
    with pytest.raises(WeightsError) as caught:
        fetch(f"{server.address}/a", target, sha256=SHA, access=QUICK)
    assert SHA in str(caught.value)
    assert hashlib.sha256(OTHER).hexdigest() in str(caught.value)
    assert left_over(target) == []
    assert len(server.requests) == 1


def test_a_wrong_hash_keeps_the_file_that_was_there(server, target):
    target.parent.mkdir()
    target.write_bytes(b"older")
    server.script = serve(OTHER)
    with pytest.raises(WeightsError, match="sha256"):
        fetch(f"{server.address}/a", target, sha256=SHA, access=QUICK)
    assert target.read_bytes() == b"older"


@pytest.mark.parametrize("sha256", [SHA, None])
def test_a_cut_connection_is_taken_up_where_it_ended(server, target, sha256):
    server.script = then(serve(cut=1_000_000), serve(cut=1_500_000), serve())
    fetch(f"{server.address}/a", target, sha256=sha256, access=QUICK)
    assert target.read_bytes() == DATA
    assert server.ranges == [None, "bytes=1000000-", "bytes=2500000-"]
    assert [headers.get("If-Range") for _, headers in server.requests][1:] == ['"one"'] * 2


def test_a_later_call_goes_on_after_a_line_that_stayed_dead(server, target):
    server.script = then(serve(cut=500_000), answer(503))
    with pytest.raises(DownloadError, match="503"):
        fetch(f"{server.address}/a", target, sha256=SHA, access=QUICK)
    assert not target.exists()
    assert (target.parent / "weights.h5.part").stat().st_size == 500_000
    server.script = serve()
    fetch(f"{server.address}/a", target, sha256=SHA, access=QUICK)
    assert target.read_bytes() == DATA
    assert server.ranges[-1] == "bytes=500000-"
    assert left_over(target) == ["weights.h5"]


def test_a_server_that_ignores_ranges_sends_all_again(server, target):
    server.script = then(serve(cut=1_000_000), serve(ranges=False))
    fetch(f"{server.address}/a", target, access=QUICK)
    assert target.read_bytes() == DATA
    assert len(server.requests) == 2


def test_a_file_that_changed_meanwhile_begins_again(server, target):
    server.script = then(serve(OTHER, cut=1_000_000, etag='"old"'), serve())
    fetch(f"{server.address}/a", target, access=QUICK)
    assert target.read_bytes() == DATA
    assert server.requests[1][1]["If-Range"] == '"old"'


def test_without_version_or_hash_nothing_is_joined(server, target):
    server.script = then(serve(OTHER, cut=1_000_000, etag=None), serve(etag=None))
    fetch(f"{server.address}/a", target, access=QUICK)
    assert server.ranges == [None, None]
    assert target.read_bytes() == DATA


def test_a_weak_tag_does_not_join_pieces(server, target):
    server.script = then(serve(OTHER, cut=1_000_000, etag='W/"x"'), serve(etag='W/"x"'))
    fetch(f"{server.address}/a", target, access=QUICK)
    assert server.ranges == [None, None]
    assert target.read_bytes() == DATA


def test_joined_pieces_that_do_not_fit_are_fetched_once_more_from_nothing(server, target):
    target.parent.mkdir()
    (target.parent / "weights.h5.part").write_bytes(OTHER[:1000])
    fetch(f"{server.address}/a", target, sha256=SHA, access=QUICK)
    assert server.ranges == ["bytes=1000-", None]
    assert target.read_bytes() == DATA


def test_and_only_once(server, target):
    target.parent.mkdir()
    (target.parent / "weights.h5.part").write_bytes(OTHER[:1000])
    server.script = serve(OTHER)
    with pytest.raises(WeightsError, match="sha256"):
        fetch(f"{server.address}/a", target, sha256=SHA, access=QUICK)
    assert server.ranges == ["bytes=1000-", None]
    assert left_over(target) == []


def test_a_complete_beginning_needs_no_request(server, target):
    target.parent.mkdir()
    (target.parent / "weights.h5.part").write_bytes(DATA)
    fetch(f"{server.address}/a", target, sha256=SHA, access=QUICK)
    assert target.read_bytes() == DATA
    assert not server.requests


def test_a_beginning_longer_than_the_file_begins_again(server, target):
    target.parent.mkdir()
    (target.parent / "weights.h5.part").write_bytes(DATA + b"more")
    fetch(f"{server.address}/a", target, sha256=SHA, access=QUICK)
    assert target.read_bytes() == DATA
    assert server.ranges == [f"bytes={len(DATA) + 4}-", None]


def test_a_server_that_sends_another_part_is_not_believed(server, target):
    def wrong(handler, number):
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 7-{len(DATA) - 1}/{len(DATA)}")
        handler.send_header("Content-Length", str(len(DATA) - 7))
        handler.end_headers()
        handler.wfile.write(DATA[7:])

    server.script = then(serve(cut=1000), wrong, serve())
    fetch(f"{server.address}/a", target, access=QUICK)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_not_asked_again(server, target, status):
    server.script = answer(status)
    with pytest.raises(DownloadError, match=f"answered {status}") as caught:
        fetch(f"{server.address}/a", target, access=QUICK)
    assert caught.value.status == status
    assert len(server.requests) == 1
    assert not target.exists()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_failure_is_asked_again(server, target, status):
    server.script = then(answer(status), answer(status), serve())
    fetch(f"{server.address}/a", target, sha256=SHA, access=QUICK)
    assert len(server.requests) == 3


def test_patience_ends(server, target):
    server.script = answer(500)
    with pytest.raises(DownloadError, match="answered 500"):
        fetch(f"{server.address}/a", target, access=QUICK)
    assert len(server.requests) == QUICK.attempts


def test_a_server_that_says_nothing_times_out(server, target):
    waiting = threading.Event()
    server.script = lambda handler, number: waiting.wait(5)
    with pytest.raises(DownloadError, match=r"timed out.*check the connection"):
        fetch(f"{server.address}/a", target, access=Access(timeout=0.1, attempts=2, wait=0.01))
    waiting.set()
    assert len(server.requests) == 2


def test_a_server_that_stalls_in_the_middle_times_out_and_goes_on(server, target):
    waiting = threading.Event()

    def stall(handler, number):
        serve(cut=300_000)(handler, number)
        handler.wfile.flush()
        waiting.wait(5)

    server.script = then(stall, serve())
    access = Access(timeout=0.3, attempts=2, wait=0.01)
    fetch(f"{server.address}/a", target, sha256=SHA, access=access)
    waiting.set()
    assert target.read_bytes() == DATA
    assert server.ranges[1].startswith("bytes=")


def test_nobody_listening_is_said_with_the_address(target):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DownloadError, match=f"http://127.0.0.1:{port}/a: cannot be reached") as it:
        fetch(f"http://127.0.0.1:{port}/a", target, access=QUICK)
    assert it.value.passing


@pytest.mark.parametrize(
    "elsewhere", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,x"]
)
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_lead_to_the_web_only(server, target, elsewhere, status):
    server.script = answer(status, Location=elsewhere)
    with pytest.raises(DownloadError, match="is not followed"):
        fetch(f"{server.address}/a", target, access=QUICK)
    assert len(server.requests) == 1
    assert left_over(target) == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_on_the_web_are_followed_with_the_range(server, target, status):
    part = target.with_name("weights.h5.part")
    part.parent.mkdir()
    part.write_bytes(DATA[:1000])
    server.script = then(answer(status, Location="/b"), serve())
    fetch(f"{server.address}/a", target, sha256=SHA, access=QUICK)
    assert [path for path, _ in server.requests] == ["/a", "/b"]
    assert server.ranges[1] == "bytes=1000-"


def test_https_is_never_left_for_http():
    from urllib.request import Request

    from coala_latent.weights.transport import _Redirects

    secure = Request("https://example.org/a")
    with pytest.raises(DownloadError, match="never from https to http"):
        _Redirects().redirect_request(secure, None, 302, "", {}, "http://example.org/a")
    assert _Redirects().redirect_request(secure, None, 302, "", {}, "https://example.org/b")


def test_a_circle_of_redirects_ends(server, target):
    server.script = answer(302, Location="/a")
    with pytest.raises(DownloadError):
        fetch(f"{server.address}/a", target, access=QUICK)
    assert len(server.requests) < 15


@pytest.mark.parametrize("length", [True, False])
def test_too_large_a_file_is_refused(server, target, length):
    server.script = serve(length=length)
    with pytest.raises(WeightsError, match="larger than 1 MB"):
        fetch(f"{server.address}/a", target, limit=1_000_000, access=QUICK)
    assert left_over(target) == []


def test_a_full_disk_is_told_before_anything_comes(server, target, monkeypatch):
    usage = download.shutil.disk_usage("/")._replace(free=1_000_000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(WeightsError, match=r"3\.1 MB are needed, 1\.0 MB are free.*LATENT_HOME"):
        fetch(f"{server.address}/a", target, access=QUICK)


def test_a_name_and_password_go_to_their_own_host_alone(server, target):
    other = Server()
    server.script = answer(302, Location=f"{other.address}/b")
    fetch(server.address.replace("://", "://me:p%40ss@") + "/a", target, access=QUICK)
    assert server.requests[0][1]["Authorization"] == "Basic bWU6cEBzcw=="
    assert "Authorization" not in other.requests[0][1]
    other.server.shutdown()
    other.server.server_close()


def test_secrets_are_not_shown(server, target):
    server.script = answer(404)
    address = server.address.replace("://", "://me:password@") + "/a?token=hidden"
    with pytest.raises(DownloadError) as caught:
        fetch(address, target, access=QUICK)
    assert "password" not in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert shown(address) == f"{server.address}/a"


def test_the_proxy_of_the_environment_is_used(server, target, monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", server.address)
    fetch("http://weights.invalid/a", target, sha256=SHA, access=QUICK)
    assert server.requests[0][0] == "http://weights.invalid/a"


@pytest.mark.parametrize("form", ["path", "file", "odd name"])
def test_local_files_are_copied(tmp_path, target, form):
    source = tmp_path / ("a b=ü#.npy" if form == "odd name" else "a.npy")
    source.write_bytes(DATA)
    given = source if form == "path" else source.as_uri()
    assert fetch(given, target, sha256=SHA) == SHA
    assert target.read_bytes() == DATA
    assert source.is_file()
    assert left_over(target) == ["weights.h5"]
    with pytest.raises(WeightsError, match="sha256"):
        fetch(given, target, sha256="0" * 64)
    with pytest.raises(WeightsError, match="larger than"):
        fetch(given, target, limit=10)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("ftp://example.org/a", "not an http, https or file address"),
        ("s3://bucket/a", "not an http, https or file address"),
        ("file://elsewhere/a", "another computer"),
        ("missing.h5", "cannot be read"),
        ("http:///nowhere", "not an address"),
        ("http://[broken/", "not an address"),
    ],
)
def test_sources_that_are_none(tmp_path, target, source, match, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=match):
        fetch(source, target, access=QUICK)
    assert not target.exists()


def test_a_folder_is_no_file(tmp_path, target):
    with pytest.raises(WeightsError, match="cannot be read"):
        fetch(tmp_path, target)


def test_threads_take_turns(server, target):
    results = []

    def run():
        results.append(fetch(f"{server.address}/a", target, sha256=SHA, access=QUICK))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [SHA] * 4
    assert len(server.requests) == 1


def _fetch_in_another_process(address, target):
    fetch(address, target, sha256=SHA, access=QUICK)


def test_processes_take_turns(server, target):
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=_fetch_in_another_process, args=(f"{server.address}/a", target))
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(server.requests) == 1
    assert target.read_bytes() == DATA


def test_pages_are_read_whole(server):
    server.script = then(answer(500), serve(b"<html>", etag=None))
    page, _, address = read_page(f"{server.address}/simple/", QUICK, "text/html")
    assert page == b"<html>"
    assert address == f"{server.address}/simple/"
    server.script = serve(DATA, cut=100)
    with pytest.raises(DownloadError, match="cut short"):
        read_page(f"{server.address}/simple/", QUICK, "text/html")


def test_certificates_that_are_none(target, tmp_path):
    with pytest.raises(WeightsError, match="not usable as certificates"):
        fetch("https://127.0.0.1:9/a", target, access=Access(certificates=str(tmp_path / "no")))


def test_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("COALA_LATENT_HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert home_folder() == tmp_path / ".cache" / "coala_latent"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored
    assert home_folder() == tmp_path / ".cache" / "coala_latent"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert home_folder() == tmp_path / "x" / "coala_latent"
    monkeypatch.setenv("COALA_LATENT_HOME", "~/mine")
    assert models_folder() == tmp_path / "mine" / "models"
    assert downloads_folder() == tmp_path / "mine" / "downloads"
    monkeypatch.setenv("COALA_LATENT_HOME", "")
    assert home_folder() == tmp_path / "x" / "coala_latent"


def test_a_home_that_cannot_be_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match="COALA_LATENT_HOME"):
        fetch(__file__, Path(tmp_path / "file" / "folder" / "a.h5"))
