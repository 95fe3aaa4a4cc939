"""What a person may say by hand: the forms of the DAGs that also run by themselves.

A run that is not by hand finds each field as it is here, which changes nothing.

Does not belong here: what a setting says as well, for good (docs/settings.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Param

from trailer_ml.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trailer_ml.settings import Settings


def _day(title: str, description: str) -> Param:
    return Param(None, type=["null", "string"], format="date", title=title, description=description)


REFRESH = {
    "listed_on": _day(
        "Listed on", "The day whose listing is crawled. Empty: the run's own interval, or yesterday (UTC)."
    ),
    "until": _day("Until", "Every day from that one up to and including this one. Empty: that day alone."),
    "retry": Param(
        [],
        type="array",
        items={"type": "string", "minLength": 1},
        title="Try again",
        description="Reasons, one a line, such as gone: trailers of any day that were lost for one of these are tried"
        " again now, those that were given up too. docs/downloads.md lists the reasons.",
    ),
}

TRAIN = {
    "epochs": Param(
        None,
        type=["null", "array"],
        items={"type": "integer", "minimum": 1},
        title="Epochs",
        description="Of each phase, in their order, such as [10, 20, 10, 5]. Empty: as TRAILER_MODEL_PHASES says.",
    ),
    "seed": Param(
        None,
        type=["null", "integer"],
        minimum=0,
        title="Seed",
        description="Another one makes another model of the same shards. Empty: as TRAILER_MODEL_SEED says, and a model"
        " that is there already is not trained again.",
    ),
    "force": Param(
        False,
        type="boolean",
        title="Promote in any case",
        description="The model becomes the champion, whatever its figures say.",
    ),
}

INDEX = {
    "force": Param(
        False,
        type="boolean",
        title="Publish in any case",
        description="The index is served, though it lost many trailers, finds too few of the true neighbours, or was"
        " gone back from.",
    ),
}


def training_settings(params: Mapping[str, Any], settings: Settings) -> Settings:
    """The settings with what the form of `trailers_train` says in their place; a data set keeps them for its training.

    Raises:
        SettingsError: there are not as many phases as numbers of epochs.
    """
    model, epochs, seed = settings.model, params["epochs"], params["seed"]
    if epochs and len(epochs) != len(model.phases):
        names = ", ".join(phase.name for phase in model.phases)
        raise SettingsError(f"the form has {len(epochs)} numbers of epochs for {len(model.phases)} phases: {names}")
    if epochs:
        phases = zip(model.phases, epochs, strict=True)
        model = model.model_copy(
            update={"phases": tuple(phase.model_copy(update={"epochs": n}) for phase, n in phases)}
        )
    if seed is not None:
        model = model.model_copy(update={"seed": seed})
    return settings.model_copy(update={"model": model})
