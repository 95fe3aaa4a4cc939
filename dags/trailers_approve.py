"""### A person's yes: a model or an index that the gate judged worse.

**Does:** asks under *Required Actions* whether it should be used all the same → on *Approve* promotes the model, or
publishes the index. Until then, on *Reject*, and when nobody has answered for three days, what is in use stays, so
no night waits for anybody.

**Runs:** woken by `trailers_train` and `trailers_index`, once for each such question; or by hand, from the form.

**In:** `models/<version>/` or `index/<version>/`. **Out:** `models/champion.json` and an event of the asset
`trailer_model`, or `index/current.json`.

**Safe to run twice:** yes. What is in use already is left as it is, and a yes counts only as long as what it was
compared with is still in use.
"""

from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param, dag, get_current_context, task

from trailer_airflow.approval import use_index, use_model
from trailer_airflow.assets import MODEL
from trailer_airflow.defaults import ANSWER_WITHIN, DEFAULT_ARGS, START
from trailer_airflow.notify import Tell
from trailer_airflow.settings import open_stage
from trailer_ml.records import ID_PATTERN


@dag(
    schedule=None,
    start_date=START,
    is_paused_upon_creation=False,  # it does nothing without a person, and a question should be seen
    default_args=DEFAULT_ARGS,
    on_failure_callback=Tell("failed"),
    params={
        "kind": Param(type="string", enum=["model", "index"], title="What", description="A model or an index."),
        "version": Param(type="string", pattern=ID_PATTERN, title="Version", description="Which should be used."),
        "against": Param(
            None,
            type=["null", "string"],
            pattern=ID_PATTERN,
            title="In place of",
            description="The version in use that it was compared with; empty: none was.",
        ),
        "reason": Param("", type="string", title="Reason", description="Why it was judged worse, in words."),
    },
    tags=["trailers"],
    doc_md=__doc__,
)
def trailers_approve() -> None:
    ask = ApprovalOperator(
        task_id="ask",
        subject="Use {{ params.kind }} {{ params.version }} although it was judged worse?",
        body="In use: {{ params.against or 'none' }}. Why it was judged worse: {{ params.reason }}",
        defaults=ApprovalOperator.REJECT,
        response_timeout=ANSWER_WITHIN,
        notifiers=Tell("waits"),
    )

    @task(outlets=[MODEL], multiple_outputs=False)
    def promote(params: dict[str, Any]) -> dict[str, Any]:
        promotion = use_model(params, *open_stage())
        get_current_context()["outlet_events"][MODEL].extra = {"version": promotion.version}
        return promotion.to_json()

    @task(multiple_outputs=False)
    def publish(params: dict[str, Any]) -> dict[str, Any]:
        return use_index(params, *open_stage())

    ask >> [promote(), publish()]


trailers_approve()
