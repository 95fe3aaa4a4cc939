"""The demo: the whole job on real parts, on this machine, from nothing to answers.

A studio makes films, a site serves them, SeaweedFS keeps what is made of them, and Airflow runs the four DAGs over
three days of listings. What it makes stays in one folder; a second run takes up where the first was.

Does not belong here: anything that production would also do.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shlex
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from trailer_ml.demo.airflow_stack import LOCAL, USERNAME, run_airflow
from trailer_ml.demo.cluster import run_cluster_servers
from trailer_ml.demo.guard import Stopped, run_guarded
from trailer_ml.demo.jobs import Jobs
from trailer_ml.demo.profile import demo_settings
from trailer_ml.demo.progress import Progress
from trailer_ml.demo.report import write_report
from trailer_ml.demo.results import collect_results, print_results
from trailer_ml.demo.services import LOOPBACK, free_port, run_seaweedfs, write_private
from trailer_ml.demo.site import run_site
from trailer_ml.demo.studio import make_world
from trailer_ml.demo.world import DAYS
from trailer_ml.errors import SettingsError, TrailerError
from trailer_ml.settings import as_environment
from trailer_ml.storage import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from trailer_ml.demo.airflow_stack import Airflow
    from trailer_ml.demo.world import World
    from trailer_ml.settings import Settings

logger = logging.getLogger(__name__)

N_NEIGHBOURS = 5


class Ports(NamedTuple):
    """Where things listen on loopback if these ports are free; 0: anywhere."""

    airflow: int = 8080
    site: int = 8123
    store: int = 8333


class Running(NamedTuple):
    """Everything that has been started."""

    world: World
    site_url: str
    settings: Settings
    airflow: Airflow


def run_demo(folder: Path, *, once: bool = False, cluster: bool = False, ports: Ports | None = None) -> int:
    """Run the whole job, show what came out and, unless `once`, stay up until Ctrl-C.

    Args:
        folder: keeps everything that is made; remove it to forget.
        once: end when the results are shown.
        cluster: Airflow in its production shape: CeleryExecutor, Postgres, Redis, three workers.
        ports: where to listen; None: the usual ones.

    Returns:
        The exit code: 0 done, 1 failed, 130 interrupted before it was done.
    """
    os.environ.update(_without_proxy())
    return run_guarded(lambda: _run(folder.resolve(), once=once, cluster=cluster, ports=ports or Ports()))


def _run(folder: Path, *, once: bool, cluster: bool, ports: Ports) -> int:
    progress = Progress()
    code = 1
    try:
        with _locked(folder), ExitStack() as stack:
            try:
                running = _start(stack, folder, ports, progress, cluster=cluster)
                _work(running, folder, progress)
                code = 0
                if not once:
                    env = shlex.quote(str(folder / "env"))
                    progress.say(f"ask it yourself: set -a; . {env}; set +a; .venv/bin/trailer-ml status")
                    progress.say("Ctrl-C stops everything; the next `make demo` takes up here")
                    _wait(running.airflow)
            finally:
                progress.say("stopping")
    except Stopped:
        progress.clear()
        code = 130 if code else 0
    except Exception as error:
        progress.clear()
        known = isinstance(error, TrailerError)
        print(f"trailer-ml demo: {error if known else f'{type(error).__name__}: {error}'}", file=sys.stderr)
        if isinstance(error, TrailerError) and error.stderr_tail:
            print(error.stderr_tail, file=sys.stderr)
        logger.debug("the demo failed", exc_info=True)
        code = 1
    progress.say("everything is stopped")
    return code


def _start(stack: ExitStack, folder: Path, ports: Ports, progress: Progress, *, cluster: bool) -> Running:
    """Start all servers; the films are made meanwhile."""
    pool = ThreadPoolExecutor(1)
    stack.callback(pool.shutdown, wait=False, cancel_futures=True)  # Ctrl-C does not wait for the last film
    studio = pool.submit(make_world, folder / "world")
    store = stack.enter_context(run_seaweedfs(folder / "store", port=ports.store))
    progress.say(f"SeaweedFS      {store.endpoint_url}  (bucket {store.bucket})")
    site_port = _keep_site_port(folder / "site-port", ports.site)
    site_url = f"http://{LOOPBACK}:{site_port}"
    settings = keep_caches(demo_settings(store, site_url), folder / "cache")
    executor = stack.enter_context(run_cluster_servers(store.bucket)).executor if cluster else LOCAL
    environ = task_environment(settings)
    at_once = len(executor.workers) or 2
    airflow = stack.enter_context(
        run_airflow(
            folder / "airflow", find_project(), environ, port=ports.airflow, parallelism=at_once, executor=executor
        )
    )
    _write_env(folder / "env", settings)
    world = _wait_for_studio(studio, folder / "world", progress)
    stack.enter_context(run_site(folder / "world", port=site_port, report_folder=folder / "report"))
    progress.say(f"film site      {site_url}  ({len(world.clips)} trailers of {len(world.films)} titles)")
    progress.show("Airflow starts")
    airflow.wait_until_healthy()
    progress.say(f"Airflow        {airflow.url}  (user {USERNAME}, password {airflow.password})")
    for name, wanted, got in (("SeaweedFS", ports.store, store.endpoint_url), ("the site", ports.site, site_url),
                              ("Airflow", ports.airflow, airflow.url)):  # fmt: skip
        if wanted and not str(got).endswith(f":{wanted}"):
            progress.say(f"port {wanted} is taken, so {name} listens elsewhere")
    return Running(world, site_url, settings, airflow)


def _work(running: Running, folder: Path, progress: Progress) -> None:
    store = Store(running.settings.store)
    jobs = Jobs(running.airflow, store, progress)
    jobs.refresh(DAYS)
    jobs.follow_to_the_index()
    run = jobs.match_ads([f"{running.site_url}/{ad.file}" for ad in running.world.ads], N_NEIGHBOURS)
    results = collect_results(running.settings, store, run, jobs.times(), folder)
    report = write_report(results, store, folder / "world", folder / "report")
    progress.clear()
    print_results(results)
    print(f"\nReport   {running.site_url}/report/  (kept: {report})")
    print(f"Page     {running.airflow.url}/plugin/trailers  (behind Airflow's login)")
    print(f"Airflow  {running.airflow.url}  user {USERNAME}, password {running.airflow.password}\n")


def _keep_site_port(path: Path, preferred: int) -> int:
    """The site's port, the same in every run, for the catalog names its addresses.

    Raises:
        SettingsError: somebody else has it now.
    """
    if not path.exists():
        write_private(path, str(free_port(preferred)))
    port = int(path.read_text(encoding="ascii"))
    if free_port(port) != port:
        raise SettingsError(f"port {port} is taken and {path.parent} needs it; free it, or forget: make demo-clean")
    return port


def _without_proxy() -> dict[str, str]:
    """Variables that keep what is on loopback off any proxy."""
    others = (os.environ.get("no_proxy"), os.environ.get("NO_PROXY"))
    value = ",".join(dict.fromkeys(filter(None, f"{LOOPBACK},localhost,{','.join(filter(None, others))}".split(","))))
    return {"no_proxy": value, "NO_PROXY": value}


def _write_env(path: Path, settings: Settings) -> None:
    """Variables for a person's shell, so that `trailer-ml` speaks to this store while the demo is up."""
    key, secret = settings.store.access_key_id, settings.store.secret_access_key
    variables = {
        **as_environment(settings),
        **_without_proxy(),
        "AWS_ACCESS_KEY_ID": key.get_secret_value() if key else "",
        "AWS_SECRET_ACCESS_KEY": secret.get_secret_value() if secret else "",
    }
    write_private(path, "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items()))


def _wait(airflow: Airflow) -> None:
    while True:
        airflow.check_alive()
        time.sleep(1)


def _wait_for_studio(studio: Future[World], folder: Path, progress: Progress) -> World:
    while not studio.done():
        progress.show(f"the studio makes films: {sum(1 for _ in folder.glob('*/*.mp4'))} so far; Airflow starts")
        time.sleep(0.5)
    return studio.result()


def keep_caches(settings: Settings, folder: Path) -> Settings:
    """Local copies stay in the demo's folder too."""
    return settings.model_copy(
        update={
            "sources": settings.sources.model_copy(update={"cache_folder": folder / "catalog"}),
            "model": settings.model.model_copy(update={"cache_folder": folder / "model"}),
            "index": settings.index.model_copy(update={"cache_folder": folder / "index"}),
        }
    )


def task_environment(settings: Settings) -> dict[str, str]:
    """What Airflow's parts are given: the settings as variables, the store's keys as an Airflow Connection."""
    key, secret = settings.store.access_key_id, settings.store.secret_access_key
    connection = {
        "conn_type": "aws",
        "login": key.get_secret_value() if key else "",
        "password": secret.get_secret_value() if secret else "",
        "extra": {"endpoint_url": settings.store.endpoint_url, "region_name": settings.store.region},
    }
    return {
        **as_environment(settings),
        "AIRFLOW_CONN_TRAILER_STORE": json.dumps(connection),
        "TF_CPP_MIN_LOG_LEVEL": "2",  # TensorFlow tells each task which CPU it found
    }


def find_project() -> Path:
    """The checkout that this package runs from.

    Raises:
        SettingsError: it was installed without one.
    """
    project = Path(__file__).resolve().parents[2]
    if not (project / "airflow.cfg.template").exists():
        raise SettingsError("the demo needs the DAGs beside the package: run it from a checkout (pip install -e .)")
    return project


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One demo at a time in one folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SettingsError(f"another demo is at work in {folder}") from None
        yield
