"""IMDb's own addresses, unmodified: the spider and yt-dlp's IMDb extractor reach a local site through a proxy that
speaks TLS with a test certificate, as a company's proxy does."""

import datetime as dt
import http.client
import http.server
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from trailer_ml.catalog.crawl import crawl_catalog
from trailer_ml.catalog.listing import read_trailers
from trailer_ml.demo.site import run_site
from trailer_ml.demo.studio import make_world
from trailer_ml.demo.world import DAYS, World
from trailer_ml.media.download import download_videos
from trailer_ml.records import Interval
from trailer_ml.settings import CatalogSettings, MediaSettings, Settings
from trailer_ml.storage import Store

HOST = "www.imdb.com"


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for www.imdb.com that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "ca.pem", folder / "key.pem"


class Proxy(http.server.ThreadingHTTPServer):
    """Opens tunnels to www.imdb.com, speaks for it inside them, and asks the local site."""

    daemon_threads = True
    site: str
    context: ssl.SSLContext
    seen: Counter[str]
    refused: Counter[str]

    def handle_error(self, *args: object) -> None:  # noqa: ARG002
        return


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def do_CONNECT(self) -> None:
        if self.path != f"{HOST}:443":
            self.server.refused[self.path] += 1
            self.send_error(403)
            return
        self.send_response_only(200)
        self.end_headers()
        self.connection = self.server.context.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")  # type: ignore[assignment]
        self.wfile = self.connection.makefile("wb", buffering=0)  # type: ignore[assignment]
        self.close_connection = False

    def do_GET(self) -> None:
        self.server.seen[self.path.split("?")[0]] += 1
        site = http.client.HTTPConnection(self.server.site)
        passed = {name: self.headers[name] for name in ("User-Agent", "Range") if name in self.headers}
        site.request("GET", self.path, headers={"Host": HOST, "X-Forwarded-Proto": "https", **passed})
        answer = site.getresponse()
        body = answer.read()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() in {"content-type", "content-range", "accept-ranges", "etag", "location"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        site.close()

    def finish(self) -> None:
        super().finish()
        self.connection.close()  # the one inside the tunnel

    def log_message(self, *args: object) -> None:  # noqa: ARG002
        return


@pytest.fixture(scope="module")
def world_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    make_world(folder, n_films=2, seconds=4.0, odd=False)
    return folder


@pytest.fixture
def proxy(world_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    certificate, key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with run_site(world_folder) as url:
        server = Proxy(("127.0.0.1", 0), Handler)
        server.site, server.context = urlsplit(url).netloc, context
        server.seen, server.refused = Counter(), Counter()
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        yield server
        server.shutdown()
        thread.join()
        server.server_close()


def test_imdbs_own_addresses_are_crawled_and_downloaded(
    proxy: Proxy, settings: Settings, store: Store, world_folder: Path, tmp_path: Path
) -> None:
    world = World.model_validate_json((world_folder / "world.json").read_bytes())
    catalog = CatalogSettings(accept_terms=("imdb_html",), download_delay_s=0.0, autothrottle_start_delay_s=0.01)
    assert catalog.base_url == f"https://{HOST}"
    media = MediaSettings(proxy=SecretStr(f"http://127.0.0.1:{proxy.server_port}"), min_free_bytes=0)
    assert media.allowed_private_hosts == ()
    settings = settings.model_copy(update={"catalog": catalog, "media": media})

    crawl_catalog(Interval(start=DAYS[0], end=DAYS[-1] + dt.timedelta(days=1)), settings, store)
    trailers = {trailer.trailer_id: trailer for trailer in read_trailers(store)}
    assert set(trailers) == {f"imdb-{clip.video_id}" for clip in world.clips}
    assert proxy.seen["/robots.txt"] == 1

    items = [(trailer_id, trailer.source_url) for trailer_id, trailer in trailers.items()]
    assert all(url.startswith(f"https://{HOST}/video/vi") for _, url in items)
    outcomes = download_videos(items, tmp_path, settings)
    assert [(outcome.reason, outcome.detail) for outcome in outcomes] == [("", "")] * len(items)
    for outcome in outcomes:
        assert outcome.path
        assert outcome.path.read_bytes() == (world_folder / f"media/{outcome.item_id[5:]}.mp4").read_bytes()
    assert not proxy.refused


def test_another_authority_is_not_believed(
    proxy: Proxy, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    media = MediaSettings(proxy=SecretStr(f"http://127.0.0.1:{proxy.server_port}"), min_free_bytes=0, attempts=1)
    settings = settings.model_copy(update={"media": media})
    [outcome] = download_videos([("a", f"https://{HOST}/video/vi1/")], tmp_path, settings)
    assert "CERTIFICATE_VERIFY_FAILED" in outcome.detail
    assert not proxy.seen
