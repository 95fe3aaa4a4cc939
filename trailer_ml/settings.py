"""One settings class per stage, each default once; the environment is read in one function, `load_settings`.

`TRAILER_<STAGE>_<FIELD>` sets a field (`TRAILER_FEATURES_N_FRAMES=8`); lists and tables are JSON. An unknown
`TRAILER_*` variable is an error, for a typo would otherwise run a night with the defaults. Secrets are not settings:
boto3 finds AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY itself.

Does not belong here: reading files, and anything at import.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator

from trailer_ml.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.fields import FieldInfo

Share = Annotated[float, Field(ge=0.0, le=1.0)]
PREFIX = "TRAILER_"
EXTRACTOR_VERSION = "6"
"""Goes up when the same file and settings give other frames or another spectrogram."""


class StageSettings(BaseModel):
    """Base: frozen, and unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StoreSettings(StageSettings):
    """Where objects lie."""

    endpoint_url: str | None = None
    """None, or empty: AWS itself. The demo and the tests run SeaweedFS and set this."""
    bucket: str = "trailers"
    prefix: str = ""
    """Put before every key; for a bucket shared with others."""
    region: str = "us-east-1"
    access_key_id: SecretStr | None = None
    """Only for those who pass settings in code (an Airflow Connection); otherwise boto3's own chain."""
    secret_access_key: SecretStr | None = None


SourceName = Literal[
    "manifest", "movielens", "imdb_datasets", "tmdb", "wikidata", "kinocheck", "archive_org", "imdb_html"
]


class CatalogSettings(StageSettings):
    """Which sources are asked, and how politely."""

    sources: tuple[SourceName, ...] = ("imdb_html",)
    """Asked one after the other; what several of them list is one trailer, and of one film."""
    base_url: str = "https://www.imdb.com"
    chart_path: str = "/chart/moviemeter/"
    accept_terms: tuple[SourceName, ...] = ()
    """Sources whose terms you have read and keep; `trailer-ml sources` shows them. IMDb's forbid scraping without
    written consent: naming imdb_html says that you have it, or own the site."""
    user_agent: str = "trailer-ml/0.1 (+https://github.com/trailer-ml/trailer-ml)"
    """Say who you are and how to reach you."""
    download_delay_s: float = Field(default=1.0, ge=0.0)
    autothrottle_start_delay_s: float = Field(default=2.0, ge=0.0)
    max_challenges: int = Field(default=3, ge=1)
    """So many challenge pages in a row end the crawl."""
    max_wait_s: float = Field(default=120.0, ge=0)
    """A longer Retry-After is not waited for: the crawl ends and its task is retried."""
    timeout_s: float = Field(default=3600.0, gt=0)
    batch_size: int = Field(default=64, ge=1, le=64)
    max_catch_up_days: int = Field(default=14, ge=0, le=366)
    """A scheduled night also takes the nights that were missed before it, so many days back."""
    genres_path: str = ""
    """A table of your own, name,genre, that goes before ours: what a source calls a genre, in one vocabulary."""
    trailers_per_film: int = Field(default=3, ge=1)
    """The best so many are kept: a trailer, a teaser, a recut."""


class SourcesSettings(StageSettings):
    """Where each source of trailers is, and what it is asked for; only those in `catalog.sources` are."""

    manifest_path: str = ""
    """A file of your own: .csv, .jsonl or .parquet (docs/sources.md has its columns)."""
    movielens_folder: str = ""
    """Holds ml-youtube.csv, links.csv and movies.csv."""
    imdb_datasets_url: str = "https://datasets.imdbws.com/title.basics.tsv.gz"
    """An address or a path; it is streamed."""
    tmdb_url: str = "https://api.themoviedb.org/3"
    tmdb_bearer: SecretStr | None = None
    """The read access token of your account (v4); keep it in the environment only."""
    wikidata_url: str = "https://query.wikidata.org/sparql"
    kinocheck_url: str = "https://api.kinocheck.com"
    kinocheck_api_key: SecretStr | None = None
    """Optional; keep it in the environment only."""
    archive_org_url: str = "https://archive.org"
    archive_org_query: str = "collection:movie_trailers AND mediatype:movies"
    language: str = "en"
    """Of the trailers that are asked for where a source can be asked: two letters of ISO 639-1."""
    requests_per_s: float = Field(default=1.0, gt=0)
    """To one host, at most."""
    max_items: int = Field(default=5000, ge=1)
    """So many titles a source is asked for at once, at most."""
    cache_folder: Path = Path("~/.cache/trailer-ml/catalog")
    """Answers, kept as long as their source allows, asked for again only if they have changed; may be deleted."""


class MediaSettings(StageSettings):
    """How trailers are downloaded."""

    format: str = "SD/480p/b[height<=?360][ext=mp4]/b[height<=?480]/bv*[height<=?360][ext=mp4]+ba[ext=m4a]/w/bv*+ba"
    """As yt-dlp has it: small pictures are enough, and sound that comes apart is put to them."""
    max_size_bytes: int = Field(default=100 * 2**20, gt=0)
    max_duration_s: float = Field(default=600.0, gt=0)
    min_duration_s: float = Field(default=2.0, gt=0)
    turn_every_s: dict[str, Annotated[float, Field(ge=0.0)]] = {"youtube.com": 15.0, "*": 1.0}
    """Host -> seconds between two downloads from it, by all workers together; `*`: any other host, 0: as they come.
    YouTube blocks an address for an hour after some 250 videos in one."""
    cookies_path: str = ""
    """A cookies.txt of an account of yours, for videos that ask for one. Sources ban accounts that download much."""
    item_timeout_s: float = Field(default=300.0, gt=0)
    """Wall clock for one trailer, waiting included; then the child is killed with its group."""
    batch_timeout_s: float = Field(default=9000.0, gt=0)
    """What a batch has not begun by then waits for another run; keep it well below the three hours that a task has."""
    attempts: int = Field(default=4, ge=1)
    """In one task, for errors that may pass."""
    max_wait_s: float = Field(default=30.0, ge=0)
    """A longer Retry-After is not waited for in the task: the trailer waits in the store."""
    backoff_s: float = Field(default=1.0, ge=0)
    """Before the second attempt, where the source does not say; doubled before each further one."""
    retry_later_s: float = Field(default=3600.0, gt=0)
    """Until a trailer is tried again, where the source does not say."""
    give_up_after: int = Field(default=10, ge=1)
    """A trailer that failed in so many tasks is given up; being limited, announced for later, live, or not asked for is
    not failing."""
    memory_bytes: int = Field(default=2 * 2**30, gt=0)
    min_free_bytes: int = Field(default=2 * 2**30, ge=0)
    """So much of the disk is left free: with less, no download is begun."""
    allowed_extractors: tuple[str, ...] = ("imdb", "youtube", "generic", "html5")
    canary_urls: tuple[str, ...] = ()
    """Videos that are known to be there, one or more of each source: `trailer-ml doctor` asks for their formats, and so
    finds an extractor that broke or a source that blocks."""
    allowed_private_hosts: tuple[str, ...] = ()
    """`host:port` of servers on private addresses that may be fetched from; for tests and the demo."""
    proxy: SecretStr | None = None
    """`http://user:password@host:port`, or socks5h; the environment's proxies are never used. Names are then resolved
    by the proxy, and it is for the proxy to keep private ones away: here only literal addresses are refused."""
    max_loss_share: Share = 0.5
    """A batch that loses more fails its task, and gives nobody up: it may be the source that is not well. What an
    earlier batch lost already does not count when it is tried again."""
    min_losses: int = Field(default=3, ge=1)
    """Fewer never fail a batch: of a small one, one loss is a large share."""


class FeatureSettings(StageSettings):
    """Ten frames and a spectrogram; the defaults are the seed article's."""

    sampler: Literal["exact", "keyframe", "scene"] = "exact"
    """exact: the first frame at or after each instant. keyframe: the last keyframe at or before it, and faster.
    scene: as many frames, spread over the shots of the same span; the cuts are found among the keyframes."""
    engine: Literal["auto", "pyav", "ffmpeg"] = "auto"
    """pyav: in process. ffmpeg: one process put together with ffmpeg-python; the reference that tests compare with.
    auto: pyav, and ffmpeg for a file that it finds no way through or that crashes it. A record says which one made
    it."""
    n_frames: int = Field(default=10, ge=1, le=64)
    start_s: float = Field(default=5.0, ge=0)
    interval_s: float = Field(default=12.0, gt=0)
    spectrogram: Literal["showspectrumpic", "log_mel"] = "showspectrumpic"
    """showspectrumpic: ffmpeg's picture, as the seed article has it; linear in frequency, up to half the sample rate.
    log_mel: decibels of mel bands from 0 to 11 kHz, the same for every sample rate."""
    spectrogram_s: float = Field(default=125.0, gt=0)
    """Seconds of sound looked at, from `start_s` on."""
    image_size: int = Field(default=224, ge=32, le=1024)
    jpeg_quality: int = Field(default=92, ge=50, le=100)
    """Of the frames in a shard; at 92 each keeps more than 38 dB. Shards of different qualities go together."""
    timeout_s: float = Field(default=120.0, gt=0)
    """Wall clock for one trailer."""
    memory_bytes: int = Field(default=4 * 2**30, gt=0)
    max_pixels: int = Field(default=4096 * 2304, gt=0)
    ffmpeg_path: str | None = None
    """None: the static build that imageio-ffmpeg ships."""
    extractor_version: str = EXTRACTOR_VERSION
    """Nothing to choose: it is kept with what was extracted, and no other can be asked for."""

    @property
    def instants_s(self) -> tuple[float, ...]:
        """When to look: `start_s + interval_s * i`."""
        return tuple(self.start_s + self.interval_s * i for i in range(self.n_frames))

    @property
    def view(self) -> dict[str, Any]:
        """What decides what is seen of a trailer, as JSON; two that were seen differently cannot be compared.

        The engine is not in it: both are held to the same pictures.
        """
        fields = {
            "sampler", "n_frames", "start_s", "interval_s", "spectrogram", "spectrogram_s", "image_size",
            "extractor_version",
        }  # fmt: skip
        return self.model_dump(mode="json", include=fields)


class ShardSettings(StageSettings):
    """TFRecord shards."""

    workers: int = Field(default=1, ge=1)
    """Processes that extract for one shard."""
    max_loss_share: Share = 0.5
    """A batch that loses more of what was downloaded fails its task."""
    min_losses: int = Field(default=3, ge=1)
    """Fewer never fail a batch, as of the downloads."""
    keep_short: bool = True
    """Whether a trailer stays in that ends before all its frames; if not, it is lost, and counts as such."""
    keep_silent: bool = True
    """Likewise one with nothing to be heard. One without a picture never stays in."""
    max_bad_records: int = Field(default=0, ge=0)
    """Embedding, and whoever shows frames beside an ad, leave out so many damaged records of a shard; one more is an
    error. Embedding names them, and takes the shard again with each index run until it is mended. Training leaves out
    whole shards (`TRAILER_MODEL_MAX_BAD_SHARDS`), and so does the search for near-duplicates."""


Mining = Literal["triplet_semi_hard", "triplet_hard"]
Distance = Literal["L2", "squared-L2", "angular"]
Switch = Literal["auto", "on", "off"]


class PhaseSettings(StageSettings):
    """One phase of training."""

    name: str
    loss: Literal["classifier"] | Mining
    """classifier: genres, by cross-entropy. triplet_semi_hard and triplet_hard: as of tensorflow-addons."""
    epochs: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    trainable_layers: int = Field(default=0, ge=-1)
    """How many of the backbone's last layers are trained; 0: frozen, -1: all."""


DEFAULT_PHASES = (
    PhaseSettings(name="warm-up", loss="classifier", epochs=10, learning_rate=1e-3),
    PhaseSettings(name="triplet-frozen", loss="triplet_semi_hard", epochs=20, learning_rate=5e-4),
    PhaseSettings(name="triplet-top", loss="triplet_semi_hard", epochs=10, learning_rate=1e-4, trainable_layers=30),
    PhaseSettings(name="triplet-all", loss="triplet_semi_hard", epochs=5, learning_rate=1e-5, trainable_layers=-1),
)


class ModelSettings(StageSettings):
    """The two towers and how they are trained."""

    backbone: str = "ResNet50V2"
    """A name of keras.applications, or a path to a `.keras` model (n, h, w, 3) -> (n, h', w', c) or (n, c)."""
    backbone_arguments: dict[str, Any] = {}
    """Passed to the keras.applications function, such as {"alpha": 0.35}."""
    backbone_layer: str = ""
    """Name of the layer that answers for the backbone; empty: its last. What deep layers say means something only once
    they were trained: of a random network take one from the middle."""
    backbone_pixels: str = ""
    """How a `.keras` file wants its pixels: `0..255`, `0..1`, `-1..1`, or the model of keras.applications whose
    preprocessing it wants, such as ResNet50. Empty: 0..255, which is believed only where the file scales them
    itself, by a Rescaling or Normalization layer at its beginning."""
    weights: Literal["imagenet", "random"] = "imagenet"
    """random has to be asked for: where ImageNet's weights cannot be had, training stops and says so."""
    image_size: int = Field(default=224, ge=32)
    """Frames are scaled to this before the backbone."""
    spectrogram_size: int = Field(default=96, ge=32)
    """Spectrograms are scaled to this before the audio tower. It is trained in every phase: at 224 it takes three
    quarters of the time of an epoch on kept features."""
    lstm_units: int = Field(default=128, ge=1)
    video_dim: int = Field(default=128, ge=1)
    audio_dim: int = Field(default=128, ge=1)
    plain_half: bool = True
    """Whether half of each tower's numbers is not learned: the mean of the backbone's vectors, the spectrum of the
    sound. It is by these that copies are found. False: the network of the seed article, LSTM and ConvNet, alone."""
    phases: tuple[PhaseSettings, ...] = DEFAULT_PHASES
    genres_per_batch: int = Field(default=6, ge=2)
    trailers_per_genre: int = Field(default=4, ge=2)
    margin: float = Field(default=0.2, gt=0)
    distance: Distance = "L2"
    """What the triplet losses compare: L2, squared-L2, or angular, which is 1 - cosine."""
    copy_weight: float = Field(default=1.0, ge=0)
    """Of a second triplet loss beside that of the genres: each trailer is in a batch twice, varied in two ways, and is
    to be nearer to itself than to any other. 0: each is there once, and only genres count."""
    seed: int = 7
    validation_share: Share = 0.1
    test_share: Share = 0.2
    min_films: int = Field(default=30, ge=4)
    """Fewer films: no training is started by itself, and asking for it is an error."""
    max_bad_shards: int = Field(default=1, ge=0)
    """So many shards whose bytes are not those of their manifests are left out and named; one more is an error."""
    min_gain: float = Field(default=0.02, ge=0.0)
    """A model is not promoted unless its mAP is so much above chance and above the untrained model."""
    mixed_precision: Literal["auto", "off", "bfloat16", "float16"] = "auto"
    """What training computes in. auto: 16 bits where there is a GPU, bfloat16 if it is quick in that."""
    compile_xla: Switch = "auto"
    """Whether steps of training go through XLA: quicker, but Keras has no reproducible ones then. auto: they do not."""
    use_distribution: Switch = "auto"
    """Whether each batch is shared out over all GPUs; triplets are still those of the whole batch."""
    cache_folder: Path = Path("~/.cache/trailer-ml/model")
    """Local copies of shards, of the features of a frozen backbone and of encoders; may be deleted at any time.
    Of features and encoders the two used last are kept."""

    @field_validator("mixed_precision", "use_distribution", mode="before")
    @classmethod
    def _read_flag(cls, value: object, info: ValidationInfo) -> object:
        """The cards of earlier models say true or false."""
        if not isinstance(value, bool):
            return value
        is_on = "float16" if info.field_name == "mixed_precision" else "on"
        return is_on if value else "off"


class EvaluationSettings(StageSettings):
    """How a trained model is measured, and what it takes to be promoted."""

    n_copied: int = Field(default=24, ge=0)
    """Of so many held-out trailers, at most, changed copies are made and searched for; their bytes have to be kept."""
    max_copies_loss: Share = 0.02
    """A model is not promoted if its recall@1 of near-duplicates is further below the champion's."""


class IndexSettings(StageSettings):
    """Annoy."""

    n_trees: int = Field(default=100, ge=1)
    seed: int = 42
    search_effort: int | None = Field(default=None, ge=1)
    """Candidates looked at, in multiples of Annoy's own choice (answers x trees). None: each build starts at 5 and
    raises it until the index finds what is asked for and half of the rest; the manifest keeps it (decision 6)."""
    shards: int = Field(default=1, ge=1, le=64)
    """Files that an index is split into. They are built at once, one a core, and every question is put to each."""
    min_recall_at_10: Share = 0.98
    """Below this against exact search an index is not published."""
    max_shrink_share: Share = 0.5
    """An index that lost more of its trailers than this is not published by itself."""
    keep: int = Field(default=5, ge=1)
    """Versions kept for going back."""
    n_queries: int = Field(default=1000, ge=1000)
    """Trailers asked for when recall is measured; all of them where there are fewer. With less than 1,000 a recall of
    0.98 cannot be told from one of 0.97."""
    cache_folder: Path = Path("~/.cache/trailer-ml/index")
    """Where the index that is served lies on this machine, memory-mapped."""
    shards_per_task: int = Field(default=64, ge=1)
    """How many shards one embedding task takes: TensorFlow's import costs more than many shards."""


class SearchSettings(StageSettings):
    """Answers."""

    k: int = Field(default=10, ge=1, le=1000)
    duplicate_score: float = Field(default=0.97, ge=-1.0, le=1.0)
    """Trailers of two films are looked at from this cosine on; those of one film, and the five nearest, always."""
    ads_per_film: int = Field(default=3, ge=1)
    """Ads that a film is given, at most."""
    max_ad_share: Share = 0.5
    """Of the films, how many one ad may be given to: so one does not take all."""


class ServiceSettings(StageSettings):
    """`trailer-ml serve`: the page and its API (docs/service.md)."""

    host: str = "127.0.0.1"
    """Anything but loopback needs an api_key."""
    port: int = Field(default=8600, ge=0, le=65535)
    api_key: SecretStr | None = None
    """Whoever asks has to know it; keep it in the environment only, 16 characters or more. None: on loopback anybody
    of this machine may ask."""
    allowed_hosts: tuple[str, ...] = ()
    """Names by which it may be called, besides loopback's and `host`; those of a proxy before it."""
    requests_per_s: float = Field(default=50.0, gt=0)
    """Of one client, on average; eight times as many at once."""
    max_upload_bytes: int = Field(default=200 * 2**20, gt=0)
    """Of a video to be matched."""
    upload_timeout_s: float = Field(default=300.0, gt=0)
    max_matches: int = Field(default=3, ge=1)
    """Videos that may be uploaded or wait to be looked at; they are looked at one after the other."""
    refresh_s: float = Field(default=0.25, gt=0, le=1.0)
    """How often it is asked which index is served, and what was taken down."""


class Settings(StageSettings):
    """All stages together."""

    store: StoreSettings = StoreSettings()
    catalog: CatalogSettings = CatalogSettings()
    sources: SourcesSettings = SourcesSettings()
    media: MediaSettings = MediaSettings()
    features: FeatureSettings = FeatureSettings()
    shards: ShardSettings = ShardSettings()
    model: ModelSettings = ModelSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    index: IndexSettings = IndexSettings()
    search: SearchSettings = SearchSettings()
    service: ServiceSettings = ServiceSettings()


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings that the environment asks for.

    Args:
        environ: variables to read; None: this process's.

    Raises:
        SettingsError: an unknown `TRAILER_*` variable, or a value that does not fit.

    >>> load_settings({"TRAILER_FEATURES_N_FRAMES": "8"}).features.n_frames
    8
    """
    found: dict[str, dict[str, Any]] = {}
    for name, text in sorted((os.environ if environ is None else environ).items()):
        if not name.startswith(PREFIX):
            continue
        stage, _, field = name.removeprefix(PREFIX).lower().partition("_")
        if stage not in Settings.model_fields or field not in _fields_of(stage):
            raise SettingsError(f"{name} is not a setting of Trailer ML{_suggest(stage, field)}")
        found.setdefault(stage, {})[field] = _value(name, text, is_secret=_is_secret(stage, field))
    try:
        return Settings.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = [str(part) for part in first["loc"][:2]]
        is_shown = len(where) > 1 and not _is_secret(*where)  # what is wrong with a whole stage has its secrets in it
        got = f", got {str(first['input'])[:80]!r}" if is_shown else ""
        raise SettingsError(f"{PREFIX}{'_'.join(where).upper()}: {first['msg']}{got}") from None


def as_environment(settings: Settings) -> dict[str, str]:
    """The `TRAILER_*` variables that give these settings to a child process; defaults and secrets are left out."""
    variables = {}
    for stage, fields in settings.model_dump(mode="json", exclude_defaults=True).items():
        for field, value in fields.items():
            if _is_secret(stage, field):
                continue
            text = value if isinstance(value, str) else json.dumps(value)
            variables[f"{PREFIX}{stage}_{field}".upper()] = text
    return variables


def _fields_of(stage: str) -> Mapping[str, FieldInfo]:
    fields: Mapping[str, FieldInfo] = type(getattr(Settings(), stage)).model_fields
    return fields


def _is_secret(stage: str, field: str) -> bool:
    return SecretStr in get_args(_fields_of(stage)[field].annotation)


def _value(name: str, text: str, *, is_secret: bool) -> object:
    """JSON tables and lists are parsed; the rest is left to pydantic, which turns "8" into 8 where a number is due.

    A secret that begins like JSON is none.
    """
    if text[:1] in {"[", "{"} and not is_secret:
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise SettingsError(f"{name}: not valid JSON ({error}): {text[:80]!r}") from None
    return None if text == "null" else text


def _suggest(stage: str, field: str) -> str:
    import difflib

    names = [f"{PREFIX}{s}_{f}".upper() for s in Settings.model_fields for f in _fields_of(s)]
    close = difflib.get_close_matches(f"{PREFIX}{stage}_{field}".upper(), names, n=1)
    return f"; did you mean {close[0]}?" if close else ""
