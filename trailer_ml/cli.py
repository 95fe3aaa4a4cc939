"""`trailer-ml`: each command calls the very function that the DAG calls.

Exit 0: done. 1: failed, with one clear line on standard error and never a traceback, unless `--debug`. 2: wrong usage.
`--json` prints what the function returned, for machines.

Does not belong here: work. A command reads its arguments, calls one function of one room, and shows what came back.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import errno
import inspect
import json
import logging
import os
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from trailer_ml.errors import MediaError, TrailerError
from trailer_ml.records import BatchRef, Interval, Record
from trailer_ml.settings import FeatureSettings, load_settings
from trailer_ml.storage import Store
from trailer_ml.text import Text, as_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from trailer_ml.records import DatasetRef, Neighbour
    from trailer_ml.search.filters import Filters
    from trailer_ml.settings import Settings

    Add = Callable[..., argparse.ArgumentParser]  # makes a command of a function, and gives its parser back

logger = logging.getLogger(__name__)

_NAMED = 5  # of what is bad, so many are named
_NOTHING = {
    "download": "nothing to do: no batch of these days is without a shard",
    "shard": "nothing to do: no batch of these days is without a shard",
    "review": "no trailer waits for a person",
    "embed": "nothing to do: every shard has its vectors",
    "similar": "no trailer of the index is what was asked for",
    "duplicates": "no two trailers are nearly the same",
}
"""What is said where a command has nothing to show, so that silence is not taken for a fault."""


class Context(NamedTuple):
    """What every command is given."""

    arguments: argparse.Namespace
    settings: Settings
    store: Store


def doctor(context: Context) -> Iterator[Record]:
    """Look for what is missing or wrong on this machine, and say how to mend it."""
    from trailer_ml.doctor import check_machine

    wrong = []
    for check in check_machine(context.settings, context.store):
        yield check
        if not check.is_ok:
            wrong.append(check.name)
    if wrong:
        raise TrailerError(f"not ready: {', '.join(wrong)}")


def sources(context: Context) -> Iterator[Record]:
    """The sources of trailers there are, which of them are asked, and their terms."""
    from trailer_ml.catalog.source import describe_sources

    yield from describe_sources(context.settings.catalog)


def crawl(context: Context) -> Iterator[Record]:
    """Ask the sources and write down which trailers were listed on a day."""
    from trailer_ml.catalog.crawl import crawl_catalog

    for interval in _days(context):
        yield crawl_catalog(interval, context.settings, context.store)


def review(context: Context) -> Iterator[Record]:
    """Doubtful trailers that a person should look at, or take one in: the next crawl lists it."""
    from trailer_ml.catalog.review import accept_trailer, list_doubtful

    if context.arguments.accept:
        yield accept_trailer(context.arguments.accept, context.store)
    else:
        yield from list_doubtful(context.store)


def retry(context: Context) -> Record:
    """Have trailers that were lost for a reason, such as gone, tried again by the next run."""
    from trailer_ml.catalog.again import try_again

    return try_again(context.arguments.reason, context.store)


def download(context: Context) -> Iterator[Record]:
    """Cut the listed trailers into batches and download each batch that has no shard yet."""
    from trailer_ml.media.download import download_batch

    yield from _each_open_batch(download_batch, context)


def extract(context: Context) -> Iterator[Record]:
    """Turn videos into frames and a spectrogram: one .npz a video."""
    from trailer_ml.features.pool import extract_many

    asked = {"sampler": context.arguments.sampler, "engine": context.arguments.engine}
    chosen = {name: value for name, value in asked.items() if value}
    settings = context.settings.features.model_copy(update=chosen)
    stems = Counter(path.stem for path in context.arguments.videos)
    if twice := [stem for stem, number in stems.items() if number > 1]:
        raise TrailerError(f"more than one of the videos would become {twice[0]}.npz: use a folder for each")
    out: Path = context.arguments.out
    out.mkdir(parents=True, exist_ok=True)
    failed = 0
    workers = context.arguments.workers or context.settings.shards.workers
    for path, features in zip(
        context.arguments.videos, extract_many(context.arguments.videos, settings, workers), strict=True
    ):
        if isinstance(features, MediaError):
            failed += 1
            detail = str(features).removeprefix(f"{path.name}: ")
            print(f"{path}: {features.reason}: {detail}", file=sys.stderr)
            if context.arguments.json:
                yield NotExtracted(video=str(path), reason=features.reason, detail=detail)
            continue
        npz = out / f"{path.stem}.npz"
        features.save_npz(npz)
        engine = features.extractor_version.partition("-")[0]
        yield Extracted(video=str(path), npz=str(npz), n_frames=len(features.frames), engine=engine)
    if failed:
        raise TrailerError(f"{failed} of {len(context.arguments.videos)} videos could not be used")


def shard(context: Context) -> Iterator[Record]:
    """Turn each downloaded batch into one TFRecord shard and its manifest."""
    from trailer_ml.shards.write import write_shard

    yield from _each_open_batch(write_shard, context)


def verify(context: Context) -> Iterator[Record]:
    """Check every shard: hash, checksums, count, ids; name what is bad."""
    from trailer_ml.shards.verify import verify_shards

    summary = verify_shards(context.settings, context.store)
    yield summary
    if summary.bad:
        raise TrailerError(f"{len(summary.bad)} of {summary.n_shards} shards are bad")


def train(context: Context) -> Iterator[Record]:
    """Train a model on the shards that are there, or on a folder of videos: warm-up, then the triplet phases."""
    if context.arguments.from_videos:
        yield from _train_on_videos(context)
        return
    if context.arguments.sampler or context.arguments.out:
        raise TrailerError("--sampler and --out go with --from-videos: shards were made with the sampler of their day")
    from trailer_ml.model.dataset import assemble_dataset
    from trailer_ml.model.train import train_phases, warm_up

    dataset = assemble_dataset(context.settings, context.store)
    yield dataset
    yield warm_up(dataset, context.settings, context.store)
    yield train_phases(dataset, context.settings, context.store)


def _train_on_videos(context: Context) -> Iterator[Record]:
    from trailer_ml.model.sampling import compare_samplers, write_comparison

    folder, out = context.arguments.from_videos, context.arguments.out
    samplers = list(dict.fromkeys(context.arguments.sampler or [context.settings.features.sampler]))
    trials = []
    for trial in compare_samplers(folder, samplers, context.settings, context.store):
        yield trial
        trials.append(trial)
    if out:
        write_comparison(trials, out)


def evaluate(context: Context) -> Record:
    """Measure a trained model on films it never saw, beside chance, the untrained model and the champion."""
    from trailer_ml.model.card import read_card
    from trailer_ml.model.evaluate import evaluate_model
    from trailer_ml.model.pictures import page_key
    from trailer_ml.model.table import describe_evaluation

    evaluation = evaluate_model(_trained(context), context.settings, context.store)
    if context.arguments.json:
        return evaluation
    page = f"s3://{context.settings.store.bucket}/{context.settings.store.prefix}{page_key(evaluation.version)}"
    return Text(text=describe_evaluation(evaluation, read_card(evaluation.version, context.store), page))


def promote(context: Context) -> Iterator[Record]:
    """Make a trained model the champion, if it is better than the one there is; or go back to the one before it."""
    from trailer_ml.model.registry import promote_model, rollback_model

    if context.arguments.rollback:
        if context.arguments.version or context.arguments.force:
            context.arguments.parser.error("argument --rollback: it goes to the champion before this one, by itself")
        yield rollback_model(context.store)
        return
    from trailer_ml.model.evaluate import evaluate_model

    evaluation = evaluate_model(_trained(context), context.settings, context.store)
    promotion = promote_model(evaluation, context.settings, context.store, is_forced=context.arguments.force)
    yield promotion
    if promotion.champion != promotion.version:  # where it is the champion already, all is as it was asked for
        raise TrailerError(f"model {promotion.version} is not promoted: {promotion.reason}")


def embed(context: Context) -> Iterator[Record]:
    """Compute the vectors that the champion, and the model of the served index, lack of any shard."""
    from trailer_ml.embeddings.embed import embed_shards, plan_embeddings

    bad = []
    for chunk in plan_embeddings(context.settings, context.store):
        summary = embed_shards(chunk, context.settings, context.store)
        bad += [shard.key for shard in summary.bad]
        yield summary
    if bad:
        names = ", ".join(bad[:_NAMED])
        raise TrailerError(f"{len(bad)} bad shards were left out ({names}): `trailer-ml verify` says more")


def index_build(context: Context) -> Record:
    """Build an Annoy index of every vector, aside."""
    from trailer_ml.index.build import build_index

    return build_index(context.settings, context.store)


def index_verify(context: Context) -> Iterator[Record]:
    """Check an index: hashes, a self-test on this machine, recall against exact search."""
    from trailer_ml.index.stored import read_current_manifest
    from trailer_ml.index.verify import verify_index

    version = context.arguments.version or read_current_manifest(context.store).version
    summary = verify_index(version, context.settings, context.store)
    yield summary
    if summary.reason:
        raise TrailerError(f"index {summary.version} is not good enough: {summary.reason}")


def index_publish(context: Context) -> Iterator[Record]:
    """Serve an index from now on, if it is good enough; otherwise keep the old one and say why."""
    from trailer_ml.index.build import build_index
    from trailer_ml.index.publish import publish_index

    version, left_out = context.arguments.version, None
    if not version:
        built = build_index(context.settings, context.store)
        version, left_out = built.version, built.left_out
    is_forced = context.arguments.force
    summary = publish_index(version, context.settings, context.store, by_hand=True, is_forced=is_forced)
    summary = summary.model_copy(update={"left_out": left_out or ()})
    yield summary
    if not summary.is_published:
        raise TrailerError(f"index {summary.version} is not published: {summary.reason}")


def index_rollback(context: Context) -> Record:
    """Serve the index that was served before."""
    from trailer_ml.index.publish import rollback_index

    return rollback_index(context.settings, context.store)


def similar(context: Context) -> list[Neighbour]:
    """The trailers nearest to one, with score and what of it is picture and sound."""
    from trailer_ml.search.similar import find_similar

    asked = context.arguments
    return find_similar(
        asked.trailer_id,
        context.settings,
        context.store,
        k=asked.k,
        same_film=asked.same_film,
        collapse=not asked.all,
        wanted=_wanted(asked),
    )


def match(context: Context) -> Iterator[Record]:
    """The trailers nearest to videos that are not in the catalog, or the films that suit a folder of ads."""
    asked = context.arguments
    if bool(asked.videos) == bool(asked.ads):
        asked.parser.error("name videos, or a folder of them with --ads")
    if asked.ads:
        if asked.all or any(_wanted(asked)):
            asked.parser.error("argument --ads: every film is ranked, and once; --genre and the like go with videos")
        yield from _match_ads(context)
        return
    from trailer_ml.search.match import match_videos

    yield from match_videos(
        asked.videos, context.settings, context.store, k=asked.k, one_per_film=not asked.all, wanted=_wanted(asked)
    )


def _match_ads(context: Context) -> Iterator[Record]:
    from trailer_ml.search.ads import match_ads

    asked, settings = context.arguments, context.settings
    if asked.k:
        settings = settings.model_copy(update={"search": settings.search.model_copy(update={"k": asked.k})})
    run = asked.run_name or f"{dt.datetime.now(dt.UTC):%Y%m%dt%H%M%S}"
    summary = match_ads([str(path) for path in _files_in(asked.ads)], run, settings, context.store)
    yield summary
    if n_failed := summary.n_ads - summary.n_matched:
        raise TrailerError(f"{n_failed} of {summary.n_ads} ads could not be used: {summary.matches_key} says why")


def duplicates(context: Context) -> Iterable[Record]:
    """Groups of trailers that are nearly the same, with the frames and the sound that say so."""
    from trailer_ml.search.duplicates import find_duplicates

    asked = context.arguments
    return find_duplicates(context.settings, context.store, threshold=asked.score, by_frames=not asked.by_score)


def status(context: Context) -> Record:
    """Where every trailer stands, counted from the store."""
    from trailer_ml.search.status import count_states

    counted = count_states(context.store)
    context.arguments.json |= context.arguments.format == "json"
    if context.arguments.format == "prometheus":
        from trailer_ml.search.figures import render_figures

        return Text(text=render_figures(counted).rstrip())
    return counted


def takedown(context: Context) -> Record:
    """Take a trailer out of every answer at once, and delete what was made of it."""
    from trailer_ml.search.takedown import take_down

    return take_down(context.arguments.trailer_id, context.store)


def serve(context: Context) -> Iterator[Record]:
    """Answer over HTTP, with a page to see the answers, until Ctrl-C."""
    from trailer_ml.search.service.serve import bind_service, run_service

    given = {name: value for name in ("host", "port") if (value := getattr(context.arguments, name)) is not None}
    service = context.settings.service.model_copy(update=given)
    settings = context.settings.model_copy(update={"service": service})
    with bind_service(settings) as (serving, listener):
        yield serving
        run_service(listener, settings, context.store)


class NotExtracted(Record):
    """What kept a video from becoming features."""

    video: str
    reason: str
    """As in docs/extraction.md."""
    detail: str


class Extracted(Record):
    """One video turned into one file."""

    video: str
    npz: str
    n_frames: int
    engine: str
    """Which one looked at it."""


def make_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="trailer-ml",
        description="Looks at movie trailers and knows which are alike.",
        epilog="Settings come from TRAILER_* variables: docs/settings.md lists them.",
    )
    parser.add_argument(
        "--version",
        action="version",
        help="the version, and nothing else",
        version=f"%(prog)s {metadata.version('trailer-ml')}",
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print what came back as JSON, one object a line")
    common.add_argument("--debug", action="store_true", help="log everything, and show tracebacks")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(
        function: Callable[[Context], Any], parent: Any = commands, name: str | None = None
    ) -> argparse.ArgumentParser:
        text = (inspect.getdoc(function) or "").splitlines()[0]
        command: argparse.ArgumentParser = parent.add_parser(
            name or function.__name__, help=text, description=text, parents=[common]
        )
        command.set_defaults(run=function, parser=command)
        return command

    for function in (doctor, sources):
        add(function)
    add(status).add_argument(
        "--format", choices=("text", "json", "prometheus"), help="json is the same as --json; prometheus: as /metrics"
    )
    _add_making(add)
    add(embed)
    _add_index(add, commands)
    _add_asking(add)
    _add_demo(commands)
    return parser


def _add_making(add: Add) -> None:
    """From the catalog to a model."""
    function: Callable[[Context], Any]
    for function in (crawl, download, shard):
        command = add(function)
        command.add_argument("--day", type=_day, help="listed on this day (default: yesterday, UTC)")
        command.add_argument("--until", type=_day, help="every day up to and including this one")
    add(review).add_argument("--accept", metavar="TRAILER_ID", help="take this one in")
    command = add(retry)
    command.add_argument("reason", nargs="+", metavar="REASON", help="as `trailer-ml status` counts them")
    command = add(extract)
    command.add_argument("videos", nargs="+", type=Path, metavar="VIDEO")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the .npz files go")
    samplers = get_args(FeatureSettings.model_fields["sampler"].annotation)
    command.add_argument("--sampler", choices=samplers, help="instead of the setting's")
    engines = get_args(FeatureSettings.model_fields["engine"].annotation)
    command.add_argument("--engine", choices=engines, help="instead of the setting's")
    command.add_argument("--workers", type=_positive, metavar="N", help="processes (default: TRAILER_SHARDS_WORKERS)")
    add(verify)
    command = add(train)
    command.add_argument("--from-videos", type=Path, metavar="DIR", help="its videos.csv lists file,genres,film_id")
    command.add_argument(
        "--sampler",
        action="append",
        choices=samplers,
        help="how videos are looked at, instead of the setting's; several are compared",
    )
    command.add_argument("--out", type=Path, metavar="DIR", help="where samplers.json and samplers.html go")
    for function in (evaluate, promote):
        command = add(function)
        command.add_argument("version", nargs="?", help="a model version (default: the one that was trained last)")
    command.add_argument("--force", action="store_true", help="whatever the figures say")
    command.add_argument("--rollback", action="store_true", help="back to the champion before this one")


def _add_index(add: Add, commands: Any) -> None:
    index = commands.add_parser("index", help="The Annoy index: build, verify, publish, rollback.")
    index_commands = index.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add(index_build, index_commands, "build")
    for function, name, default in (
        (index_verify, "verify", "the one that is served"),
        (index_publish, "publish", "that of all that is embedded now, which is built"),
    ):
        command = add(function, index_commands, name)
        command.add_argument("version", nargs="?", help=f"an index version (default: {default})")
    command.add_argument("--force", action="store_true", help="also where it lost many trailers or its recall is low")
    add(index_rollback, index_commands, "rollback")


def _add_asking(add: Add) -> None:
    """Questions to what was made, and taking out of it."""
    command = add(similar)
    command.add_argument("trailer_id", metavar="TRAILER_ID")
    command.add_argument("-k", type=_positive, help="how many answers")
    _add_filters(command)
    command.add_argument("--same-film", action="store_true", help="other trailers of the same film too")
    command = add(match)
    command.add_argument("videos", nargs="*", metavar="VIDEO", help="a file or an address")
    command.add_argument("-k", type=_positive, help="how many answers for each")
    _add_filters(command)
    command.add_argument(
        "--ads", type=Path, metavar="DIR", help="every file of it is an ad: films for each, and a page"
    )
    command.add_argument("--name", dest="run_name", help="of the results of --ads (default: the time)")
    command = add(duplicates)
    command.add_argument("--score", type=_cosine, help="trailers of two films are looked at from this cosine on")
    command.add_argument("--by-score", action="store_true", help="go by the cosine alone, whatever they show")
    command = add(serve)
    command.add_argument("--host", help="where to listen; beyond loopback TRAILER_SERVICE_API_KEY has to be set")
    command.add_argument("--port", type=int, help="0: any free one")
    add(takedown).add_argument("trailer_id", metavar="TRAILER_ID")


def _add_filters(command: argparse.ArgumentParser) -> None:
    """What an answer has to be."""
    command.add_argument("--genre", action="append", default=[], help="only with this genre, or another one named so")
    command.add_argument("--year-from", type=int, metavar="YEAR", help="only films of this year or later")
    command.add_argument("--year-to", type=int, metavar="YEAR", help="only films of this year or earlier")
    command.add_argument("--source", action="append", default=[], help="only from this source, such as imdb")
    command.add_argument("--all", action="store_true", help="every trailer of a film, not its best alone")


def _add_demo(commands: Any) -> None:
    text = "See the whole job on this machine: studio, site, SeaweedFS, Airflow, training, index, answers."
    command = commands.add_parser("demo", help=text, description=text)
    command.add_argument("--folder", type=Path, default=Path(".demo"), help="keeps what it makes (default: .demo)")
    command.add_argument("--once", action="store_true", help="end when it is done instead of waiting for Ctrl-C")
    command.add_argument("--cluster", action="store_true", help="with Celery, Postgres, Redis and three workers")
    command.set_defaults(run=None, debug=False, json=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    arguments = make_parser().parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if arguments.debug else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes are not for this screen
    try:
        if arguments.run is None:
            from trailer_ml.demo.run import run_demo

            return run_demo(arguments.folder, once=arguments.once, cluster=arguments.cluster)
        settings = load_settings()
        result = arguments.run(Context(arguments, settings, Store(settings.store)))
        if not _show(result, as_json=arguments.json) and (told := _NOTHING.get(arguments.run.__name__)):
            print(f"trailer-ml: {told}", file=sys.stderr)
    except TrailerError as error:
        if arguments.debug:
            raise
        print(f"trailer-ml: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("trailer-ml: stopped; what is done stays done", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:  # a person gets one line, also for what nobody foresaw
        if arguments.debug:
            raise
        print(f"trailer-ml: {_describe(error)}", file=sys.stderr)
        return 1
    return 0


def _show(result: Any, *, as_json: bool) -> int:
    """Print the records; how many there were."""
    number = 0
    for number, record in enumerate([result] if isinstance(result, Record) else result, start=1):  # noqa: B007
        print(json.dumps(record.to_json(), ensure_ascii=False) if as_json else as_text(record), flush=True)
    return number


def _describe(error: Exception) -> str:
    """What nobody foresaw, in one line."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror} (--out, TMPDIR and TRAILER_..._CACHE_FOLDER say where files go)"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full (--out, TMPDIR and TRAILER_..._CACHE_FOLDER say where files go)"
    return f"unexpected {type(error).__name__}: {error} (--debug shows where)"


def _day(text: str) -> dt.date:
    with contextlib.suppress(ValueError):
        return dt.date.fromisoformat(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no day, such as 2026-11-22")


def _wanted(asked: argparse.Namespace) -> Filters:
    from trailer_ml.search.filters import Filters

    return Filters(tuple(asked.genre), asked.year_from, asked.year_to, tuple(asked.source))


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


def _files_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise TrailerError(f"there is no folder {folder}")
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _cosine(text: str) -> float:
    with contextlib.suppress(ValueError):
        if -1 <= (number := float(text)) <= 1:  # "nan" is neither
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is no cosine: -1 to 1")


def _days(context: Context) -> Iterator[Interval]:
    first = context.arguments.day or dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)
    last = context.arguments.until or first
    if last < first:
        context.arguments.parser.error(f"argument --until: {last} is before the first day, {first}")
    for number in range((last - first).days + 1):
        yield Interval.of_day(first + dt.timedelta(days=number))


def _each_open_batch(stage: Callable[[BatchRef, Settings, Store], Record], context: Context) -> Iterator[Record]:
    """What a stage makes of every batch that needs work; one that fails is named at once, and the others go on."""
    from trailer_ml.catalog.batches import plan_batches

    n_batches, n_failed = 0, 0
    for interval in _days(context):
        for batch in plan_batches(interval, context.settings, context.store):
            n_batches += 1
            try:
                yield stage(batch, context.settings, context.store)
            except TrailerError as error:
                n_failed += 1
                logger.debug("%s failed", batch.path, exc_info=True)
                print(f"{batch.path}: {error}", file=sys.stderr)
    if n_failed:
        raise TrailerError(f"{n_failed} of {n_batches} batches failed")


def _trained(context: Context) -> DatasetRef:
    """The model asked for; what comes out names it."""
    from trailer_ml.model.dataset import read_dataset
    from trailer_ml.model.finished import find_newest_trained

    version = context.arguments.version
    return read_dataset(version, context.store).ref if version else find_newest_trained(context.store)


def run() -> int:
    """`main` as a program of its own: libraries written in C do not write between our lines, unless `--debug`."""
    if "--debug" not in sys.argv:
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    return main()


if __name__ == "__main__":
    sys.exit(run())
