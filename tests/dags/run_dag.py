"""Run one DAG in a process of its own, as `dag.test` does, and print what became of it.

    python run_dag.py DAG_ID CONF_JSON [LOGICAL_DATE [RUN_TYPE]]

A process of its own: `dag.test` runs every task in the calling process, and a task may import TensorFlow. It makes
manual runs only; with another type the run it makes is given that one before its first task.
"""

import datetime as dt
import json
import sys
from pathlib import Path
from typing import Any

from airflow.dag_processing.dagbag import DagBag
from airflow.models.asset import AssetEvent, AssetModel
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select


def main() -> None:
    dag_id, conf = sys.argv[1], json.loads(sys.argv[2])
    logical_date = dt.datetime.fromisoformat(sys.argv[3]) if len(sys.argv) > 3 else None
    if len(sys.argv) > 4:
        give_runs_the_type(sys.argv[4])
    bag = DagBag(str(Path(__file__).parents[2] / "dags"), load_op_links=False)
    bag.dags[dag_id].deadline = []  # Airflow 3.3.2 looks for it in the database, where `test` does not put it
    run = bag.dags[dag_id].test(logical_date=logical_date, run_conf=conf)
    with create_session() as session:
        values = session.execute(
            select(XComModel.task_id, XComModel.map_index, XComModel.value).where(
                XComModel.run_id == run.run_id, XComModel.dag_id == dag_id, XComModel.key == "return_value"
            )
        ).all()
        events = session.execute(
            select(AssetModel.name, AssetEvent.extra)
            .join(AssetModel, AssetModel.id == AssetEvent.asset_id)
            .where(AssetEvent.source_run_id == run.run_id, AssetEvent.source_dag_id == dag_id)
        ).all()
    tasks = {f"{ti.task_id}/{ti.map_index}": ti for ti in run.get_task_instances()}
    facts = {
        "state": str(run.state),
        "tasks": {name: str(ti.state) for name, ti in tasks.items()},
        "tries": {name: ti.try_number for name, ti in tasks.items()},
        "names": {name: ti.rendered_map_index for name, ti in tasks.items()},
        "returned": {f"{task_id}/{index}": value for task_id, index, value in values},
        "events": [{"asset": name, "extra": extra} for name, extra in events],
    }
    sys.stdout.write("\n" + json.dumps(facts) + "\n")


def give_runs_the_type(run_type: str) -> None:
    from airflow.models import dagrun

    make = dagrun.get_or_create_dagrun

    def make_of_type(**arguments: Any) -> dagrun.DagRun:
        run = make(**arguments)
        run.run_type = run_type
        arguments["session"].commit()
        return run

    dagrun.get_or_create_dagrun = make_of_type


if __name__ == "__main__":
    main()
