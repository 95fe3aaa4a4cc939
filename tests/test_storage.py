"""The store's promises: whole or not at all, created once, swapped only when unchanged."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from trailer_ml.errors import ConflictError, MissingObjectError, SettingsError, StoreUnavailableError
from trailer_ml.settings import Settings, StoreSettings
from trailer_ml.storage import Store, Versioned, encode_json, sha256_of, sha256_of_file


def test_an_immutable_object_is_created_once(store):
    assert store.create_json("a.json", {"x": 1})
    assert not store.create_json("a.json", {"x": 2})
    assert store.read_json("a.json") == {"x": 1}


def test_a_pointer_is_swapped_only_when_unchanged(store):
    assert store.read_pointer("p.json") is None
    store.swap_pointer("p.json", {"v": 1}, None)
    seen = store.read_pointer("p.json")
    store.swap_pointer("p.json", {"v": 2}, seen)
    with pytest.raises(ConflictError):
        store.swap_pointer("p.json", {"v": 3}, seen)
    with pytest.raises(ConflictError):
        store.swap_pointer("p.json", {"v": 3}, None)
    assert store.read_json("p.json") == {"v": 2}


def test_keys_come_in_order_and_without_the_prefix(store):
    for key in ("b/2", "b/1", "a/1"):
        store.put_bytes(key, b"")
    assert list(store.list_keys("")) == ["a/1", "b/1", "b/2"]
    assert list(store.list_keys("b/")) == ["b/1", "b/2"]


def test_a_file_goes_there_and_back_and_leaves_nothing_aside(store, tmp_path):
    there, back = tmp_path / "there", tmp_path / "back"
    there.write_bytes(b"x" * 3_000_000)
    store.put_file("f", there)
    store.read_file("f", back)
    assert sha256_of_file(back) == sha256_of_file(there) == sha256_of(b"x" * 3_000_000)
    with pytest.raises(MissingObjectError):
        store.read_file("g", tmp_path / "g")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "there"]


def test_two_may_fetch_the_same_file_at_the_same_moment(store, tmp_path):
    store.put_bytes("f", b"whole")
    both_have_it = threading.Barrier(2)

    class Meeting:
        """The client, but both downloads end before either goes on."""

        def download_file(self, **where):
            client.download_file(**where)
            both_have_it.wait(30)

    client, store.__dict__["_client"] = store._client, Meeting()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: store.read_file("f", tmp_path / "f"), range(2)))
    assert (tmp_path / "f").read_bytes() == b"whole"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_file_is_swapped_only_when_unchanged(store, tmp_path):
    first, second = tmp_path / "1", tmp_path / "2"
    first.write_bytes(b"1")
    second.write_bytes(b"2")
    assert store.tag_of("f") is None
    store.swap_file("f", first, None)
    with pytest.raises(ConflictError):
        store.swap_file("f", second, None)
    seen = store.tag_of("f")
    store.swap_file("f", second, seen)
    with pytest.raises(ConflictError):
        store.swap_file("f", first, seen)
    assert store.read_bytes("f") == b"2"


def test_what_is_not_there(store):
    assert not store.exists("no")
    assert store.read_json_or_none("no") is None
    store.delete("no")
    with pytest.raises(MissingObjectError, match=r"there is no object s3://trailers/.*no"):
        store.read_bytes("no")


def test_without_an_address_it_is_aws():
    for url in (None, ""):
        client = Store(StoreSettings(endpoint_url=url, access_key_id="a", secret_access_key="b"))._client
        assert client.meta.endpoint_url == "https://s3.amazonaws.com"


def test_a_store_travels_as_its_settings(store):
    store.put_bytes("k", b"v")
    assert pickle.loads(pickle.dumps(store)).read_bytes("k") == b"v"


def test_no_server_no_bucket_wrong_secret(store_settings, tmp_path):
    nowhere = Store(StoreSettings(endpoint_url="http://127.0.0.1:9", access_key_id="a", secret_access_key="b"))
    with pytest.raises(StoreUnavailableError, match=r"no object store answers at http://127\.0\.0\.1:9"):
        nowhere.read_bytes("k")
    with pytest.raises(SettingsError, match="no bucket 'nobody'"):
        Store(store_settings.model_copy(update={"bucket": "nobody"})).read_bytes("k")
    wrong = Settings.model_validate({"store": {**store_settings.model_dump(), "secret_access_key": "wrong"}})
    with pytest.raises(SettingsError, match="refuses these credentials"):
        Store(wrong.store).read_bytes("k")
    (tmp_path / "f").write_bytes(b"1")
    with pytest.raises(SettingsError, match="refuses these credentials"):
        Store(wrong.store).put_file("f", tmp_path / "f")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"endpoint_url": "localhost:8333"}, r"localhost:8333: set TRAILER_STORE_ENDPOINT_URL to .* http://127"),
        ({"endpoint_url": "http://127.0.0.1:99999"}, r"http://127\.0\.0\.1:99999.*: set TRAILER_STORE_ENDPOINT_URL to"),
        ({"region": "us east"}, "'us east'.*TRAILER_STORE_REGION to a name such as us-east-1"),
        ({"bucket": "Bad Name"}, "no bucket can be called 'Bad Name': set TRAILER_STORE_BUCKET to"),
        ({"secret_access_key": None}, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_a_setting_that_cannot_be_is_one_clear_error(store_settings, changes, message):
    wrong = Store(store_settings.model_copy(update=changes))
    for ask in (lambda: wrong.read_bytes("k"), lambda: list(wrong.list_keys(""))):
        with pytest.raises(SettingsError, match=message):
            ask()


@pytest.fixture
def busy_store(monkeypatch):
    """A store that answers writes as told, one after the other; AWS answers 409 and 404 so, and no server here does."""
    monkeypatch.setattr("trailer_ml.storage._BUSY_WAITS_S", (0.0, 0.0, 0.0))
    codes = []

    class Busy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            status, code = codes.pop(0)
            answer = f"<Error><Code>{code}</Code></Error>".encode() if code else b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args):  # noqa: ARG002
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        yield Store(StoreSettings(endpoint_url=url, access_key_id="a", secret_access_key="b")), codes
        server.shutdown()


BUSY, THERE, GONE, DONE = (
    (409, "ConditionalRequestConflict"),
    (412, "PreconditionFailed"),
    (404, "NoSuchKey"),
    (200, ""),
)


def test_a_store_that_is_busy_with_the_key_has_not_said_that_it_is_there(busy_store):
    store, codes = busy_store
    for last, is_new in ((DONE, True), (THERE, False)):
        codes += [BUSY, BUSY, last]
        assert store.create_json("k", {}) is is_new
    codes += [BUSY] * 4
    with pytest.raises(StoreUnavailableError, match="busy with k again and again"):
        store.create_json("k", {})
    assert codes == []


@pytest.mark.parametrize("answer", [BUSY, THERE, GONE])
def test_who_meets_another_at_a_swap_has_to_look_again(busy_store, tmp_path, answer):
    store, codes = busy_store
    codes += [answer, answer]
    with pytest.raises(ConflictError):
        store.swap_pointer("k", {}, Versioned({}, "tag"))
    (tmp_path / "f").write_bytes(b"1")
    with pytest.raises(ConflictError):
        store.swap_file("k", tmp_path / "f", "tag")


def test_json_bytes_depend_on_the_value_only():
    assert encode_json({"b": 1, "a": "é"}) == encode_json({"a": "é", "b": 1}) == '{"a":"é","b":1}\n'.encode()
