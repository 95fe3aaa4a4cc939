"""The object store: the layout of its keys, and the one place that talks to S3.

Writing is all or nothing: an object appears under its key whole or not at all; an immutable one is only ever created.
Pointers (`models/champion.json`, `index/current.json`) change by compare-and-swap; what else is written over is said
where it is (docs/architecture.md).

Does not belong here: what the objects mean. See docs/architecture.md for the layout as a picture.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from trailer_ml.errors import ConflictError, MissingObjectError, SettingsError, StoreUnavailableError, TrailerError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from trailer_ml.records import BatchRef, Stage
    from trailer_ml.settings import StoreSettings

logger = logging.getLogger(__name__)

CHAMPION_KEY = "models/champion.json"
CURRENT_INDEX_KEY = "index/current.json"
_BUSY_WAITS_S = (0.1, 0.2, 0.4, 0.8, 1.6)
_READERS = 8
"""Objects read at once; the way there is most of the time."""


def catalog_key(listed_on: dt.date) -> str:
    """Where the trailers listed on a day are named, one Trailer a line."""
    return f"catalog/listed={listed_on.isoformat()}/trailers.jsonl"


def late_key(listed_on: dt.date, found_on: dt.date, try_number: int = 0) -> str:
    """Where trailers listed on a day are named that the crawl of another day found: that day's own file was written.

    A crawl that was cut off and done again may find others, and names these in a file of its own.
    """
    again = f".{try_number}" if try_number else ""
    return f"catalog/listed={listed_on.isoformat()}/late={found_on.isoformat()}{again}.jsonl"


def doubtful_key(trailer_id: str) -> str:
    """Where it is kept what a source says of a trailer that a person should look at first."""
    return f"catalog/doubtful/{trailer_id}.json"


def accepted_key(trailer_id: str) -> str:
    """Whose presence says that a person has looked at a doubtful trailer and wants it."""
    return f"catalog/accepted/{trailer_id}.json"


def blocked_key(source: str) -> str:
    """Whose presence says that a source did not want us when it was last asked."""
    return f"catalog/blocked/{source}.json"


def batch_key(batch: BatchRef) -> str:
    """Where the ids of a batch are."""
    return f"batches/{batch.path}.json"


def media_key(trailer_id: str) -> str:
    """Where the bytes of a trailer are."""
    return f"media/{trailer_id}.mp4"


def receipt_key(trailer_id: str) -> str:
    """Where the receipt of a download is."""
    return f"media/{trailer_id}.json"


def shard_key(batch: BatchRef) -> str:
    """Where the records of a batch are."""
    return f"shards/{batch.path}.tfrecord"


def purged_shard_key(batch: BatchRef, sha256: str) -> str:
    """Where the records of a batch are once a trailer of it was taken down: beside the old ones, for a moment."""
    return f"shards/{batch.path}.{sha256[:16]}.tfrecord"


def shard_manifest_key(batch: BatchRef) -> str:
    """Where the manifest of a shard is."""
    return f"shards/{batch.path}.json"


def thumb_key(trailer_id: str) -> str:
    """Where a picture for people is."""
    return f"thumbs/{trailer_id}.jpg"


def model_key(version: str, name: str) -> str:
    """Where a file of a model is: encoder.keras, card.json, plots/..., checkpoints/..."""
    return f"models/{version}/{name}"


def backbone_key(name: str) -> str:
    """Where the weights of a pretrained backbone are kept once they were fetched."""
    return f"backbones/{name}"


def embeddings_key(model_version: str, batch: BatchRef) -> str:
    """Where the vectors of a shard are."""
    return f"embeddings/{model_version}/{batch.path}.npz"


def embeddings_manifest_key(model_version: str, batch: BatchRef) -> str:
    """Where the manifest of the vectors of a shard is."""
    return f"embeddings/{model_version}/{batch.path}.json"


def index_key(version: str, name: str) -> str:
    """Where a file of an index is: index.ann, ids.json, manifest.json."""
    return f"index/{version}/{name}"


def ads_key(run: str, name: str) -> str:
    """Where a file of an ads run is: matches.jsonl, report.html."""
    return f"ads/{run}/{name}"


def tombstone_key(trailer_id: str) -> str:
    """Whose presence takes a trailer down."""
    return f"tombstones/{trailer_id}.json"


def quarantine_key(stage: Stage, item_id: str) -> str:
    """Where it says why something is not in."""
    return f"quarantine/{stage}/{item_id}.json"


def turns_key(host: str) -> str:
    """Where it says when a host may be asked next."""
    return f"turns/{host}.json"


class Versioned(NamedTuple):
    """A pointer's value and the tag that a swap has to name."""

    value: dict[str, Any]
    etag: str


class _BusyError(ConflictError):
    """Two conditional writes of a key met, and this one was not done; AWS answers so, and no server that runs here."""


_CONFLICTS = {
    "PreconditionFailed": ConflictError,
    "412": ConflictError,
    "ConditionalRequestConflict": _BusyError,
    "409": _BusyError,
}


class Store:
    """One bucket (and prefix) on S3 or on anything that speaks it.

    Every method raises StoreUnavailableError when no server answers.

    Args:
        settings: where it is.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self.settings = settings

    def __reduce__(self) -> tuple[type[Store], tuple[StoreSettings]]:
        """A store travels to worker processes as its settings; each makes its own client."""
        return Store, (self.settings,)

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        config = Config(
            retries={"mode": "standard", "max_attempts": 5},
            connect_timeout=5,
            read_timeout=60,
            max_pool_connections=50,  # more than the service has threads; past it urllib3 warns of each that is closed
            # Since 1.36 boto3 adds checksums by default that other servers than AWS's refuse (boto3 #4392).
            request_checksum_calculation="when_required" if self.settings.endpoint_url else "when_supported",
            response_checksum_validation="when_required" if self.settings.endpoint_url else "when_supported",
            s3={"addressing_style": "path"} if self.settings.endpoint_url else {},
        )
        key, secret = self.settings.access_key_id, self.settings.secret_access_key
        try:
            return boto3.session.Session().client(
                "s3",
                endpoint_url=self.settings.endpoint_url or None,
                region_name=self.settings.region,
                aws_access_key_id=key.get_secret_value() if key else None,
                aws_secret_access_key=secret.get_secret_value() if secret else None,
                config=config,
            )
        except ValueError as error:
            raise self._wrong_address(error) from error

    def _where(self, key: str) -> dict[str, Any]:
        return {"Bucket": self.settings.bucket, "Key": self.settings.prefix + key}

    def read_bytes(self, key: str) -> bytes:
        """The object's bytes.

        Raises:
            MissingObjectError: there is none.
        """
        with self._errors(key):
            data: bytes = self._client.get_object(**self._where(key))["Body"].read()
        return data

    def read_part(self, key: str, start: int, n_bytes: int) -> bytes:
        """So many bytes of the object from `start` on, fewer where it ends.

        Raises:
            MissingObjectError: there is no such object, or nothing of it at `start`.
        """
        with self._errors(key):
            answer = self._client.get_object(Range=f"bytes={start}-{start + n_bytes - 1}", **self._where(key))
            data: bytes = answer["Body"].read()
        return data

    def read_json(self, key: str) -> Any:
        """The object, parsed.

        Raises:
            MissingObjectError: there is none.
        """
        return json.loads(self.read_bytes(key))

    def read_json_or_none(self, key: str) -> Any:
        """The object, parsed; None where there is none."""
        try:
            return self.read_json(key)
        except MissingObjectError:
            return None

    def read_all_json(self, keys: Iterable[str]) -> list[Any]:
        """Many small objects, parsed, some at a time; one that went while we were reading is left out."""
        with ThreadPoolExecutor(_READERS) as readers:
            return [value for value in readers.map(self.read_json_or_none, keys) if value is not None]

    def read_file(self, key: str, path: Path) -> None:
        """Copy the object to `path`, which appears whole or not at all.

        Raises:
            MissingObjectError: there is none.
        """
        aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")  # others may fetch it at the same moment
        try:
            with self._errors(key):
                self._client.download_file(Filename=str(aside), **self._where(key))
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        try:
            with self._errors(key):
                self._client.head_object(**self._where(key))
        except MissingObjectError:
            return False
        return True

    def size_of(self, key: str) -> int | None:
        """The object's size in bytes; None where there is no such object."""
        try:
            with self._errors(key):
                size_bytes: int = self._client.head_object(**self._where(key))["ContentLength"]
        except MissingObjectError:
            return None
        return size_bytes

    def modified_at(self, key: str) -> dt.datetime | None:
        """When the object was last written, UTC by the store's clock; None where there is no such object."""
        try:
            with self._errors(key):
                moment: dt.datetime = self._client.head_object(**self._where(key))["LastModified"]
        except MissingObjectError:
            return None
        return moment

    def tag_of(self, key: str) -> str | None:
        """The tag that `swap_file` has to name; None where there is no such object."""
        try:
            with self._errors(key):
                tag: str = self._client.head_object(**self._where(key))["ETag"]
        except MissingObjectError:
            return None
        return tag

    def list_keys(self, prefix: str) -> Iterator[str]:
        """Keys that start with `prefix`, in order."""
        return (key for key, _ in self.list_sizes(prefix))

    def list_sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Keys that start with `prefix`, in order, and how many bytes each has."""
        with self._errors(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.settings.bucket, Prefix=self.settings.prefix + prefix
            )
            for page in pages:
                for item in page.get("Contents", []):
                    yield item["Key"].removeprefix(self.settings.prefix), item["Size"]

    def create_bytes(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> bool:
        """Create an immutable object.

        Returns:
            False where there is one already, which is left as it is.
        """
        for wait_s in (0.0, *_BUSY_WAITS_S):
            time.sleep(wait_s)
            try:
                self._put_if(key, {"IfNoneMatch": "*"}, Body=data, ContentType=content_type)
            except _BusyError:  # with somebody else's try, of which nobody knows how it ends: only asking again tells
                continue
            except ConflictError:
                return False
            else:
                return True
        raise StoreUnavailableError(f"the object store is busy with {key} again and again")

    def create_json(self, key: str, value: object) -> bool:
        """Create an immutable JSON object; False where there is one already."""
        return self.create_bytes(key, encode_json(value), "application/json")

    def put_bytes(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        """Write an object, over an old one if there is one. For bytes that their key determines, and for quarantine."""
        with self._errors(key):
            self._client.put_object(Body=data, ContentType=content_type, **self._where(key))

    def put_json(self, key: str, value: object) -> None:
        """Write a JSON object, over an old one if there is one."""
        self.put_bytes(key, encode_json(value), "application/json")

    def put_file(self, key: str, path: Path) -> None:
        """Upload a file, in parts when it is large; it appears whole or not at all."""
        with path.open("rb") as file, self._errors(key):  # upload_file hides what the server answered
            self._client.upload_fileobj(file, **self._where(key))

    def swap_file(self, key: str, path: Path, seen: str | None) -> None:
        """Upload a file of at most 5 GB, provided that the object is still the one whose tag was `seen` (None: none).

        Raises:
            ConflictError: it is not.
        """
        with path.open("rb") as file:
            self._put_if(key, {"IfMatch": seen} if seen else {"IfNoneMatch": "*"}, Body=file)

    def delete(self, key: str) -> None:
        """Delete an object; it is no error when there is none."""
        with self._errors(key):
            self._client.delete_object(**self._where(key))

    def read_pointer(self, key: str) -> Versioned | None:
        """A pointer and the tag to swap it with; None where there is none yet."""
        try:
            with self._errors(key):
                answer = self._client.get_object(**self._where(key))
                return Versioned(json.loads(answer["Body"].read()), answer["ETag"])
        except MissingObjectError:
            return None

    def swap_pointer(self, key: str, value: object, seen: Versioned | None) -> None:
        """Write a pointer, provided that it is still what was `seen`.

        Raises:
            ConflictError: it is not.
        """
        condition = {"IfMatch": seen.etag} if seen else {"IfNoneMatch": "*"}
        self._put_if(key, condition, Body=encode_json(value), ContentType="application/json")

    def _put_if(self, key: str, condition: dict[str, str], **what: Any) -> None:
        """Write an object under a condition.

        Raises:
            ConflictError: it does not hold, or another write of the key was under way, or what should match is gone.
        """
        try:
            with self._errors(key):
                self._client.put_object(**what, **self._where(key), **condition)
        except MissingObjectError as error:
            raise ConflictError(f"{key} was deleted by somebody else") from error

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            raise self._explain_answer(str(error.response.get("Error", {}).get("Code", "")), key) from error
        except (BotoCoreError, Boto3Error) as error:
            raise self._explain_silence(error) from error

    def _explain_answer(self, code: str, key: str) -> TrailerError:
        where = f"s3://{self.settings.bucket}/{self.settings.prefix}{key}"
        if code == "NoSuchBucket":
            return SettingsError(f"there is no bucket {self.settings.bucket!r} (TRAILER_STORE_BUCKET)")
        if code == "InvalidBucketName":
            return self._wrong_bucket()
        if code in {"NoSuchKey", "404", "NotFound", "InvalidRange", "416"}:
            return MissingObjectError(f"there is no object {where}")
        if code in _CONFLICTS:
            return _CONFLICTS[code](f"{where} was changed by somebody else")
        if code in {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}:
            return SettingsError(f"the object store refuses these credentials ({code}) for {where}")
        return StoreUnavailableError(f"the object store answered {code} for {where}")

    def _explain_silence(self, error: Exception) -> TrailerError:
        from botocore import exceptions

        if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
            return SettingsError("no credentials for the object store: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        if isinstance(error, exceptions.EndpointProviderError):
            return self._wrong_address(error)
        if isinstance(error, exceptions.ParamValidationError) and "bucket name" in str(error):
            return self._wrong_bucket()
        at = self.settings.endpoint_url or "AWS S3"
        return StoreUnavailableError(f"no object store answers at {at} (TRAILER_STORE_ENDPOINT_URL): {error}")

    def _wrong_address(self, error: Exception) -> SettingsError:
        return SettingsError(
            f"{error}: set TRAILER_STORE_ENDPOINT_URL to a whole address, such as http://127.0.0.1:8333, "
            "and TRAILER_STORE_REGION to a name such as us-east-1"
        )

    def _wrong_bucket(self) -> SettingsError:
        return SettingsError(
            f"no bucket can be called {self.settings.bucket!r}: set TRAILER_STORE_BUCKET to 3 to 63 small letters, "
            "digits, dots and hyphens"
        )


def encode_json(value: object) -> bytes:
    """JSON bytes that depend on the value only: sorted keys, no spaces to differ by, one newline at the end."""
    return (json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def sha256_of(data: bytes) -> str:
    """Hex digest of some bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
