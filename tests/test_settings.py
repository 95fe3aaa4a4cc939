"""Settings: each default once, the environment read in one place, and no typo that passes."""

import pytest
from pydantic import ValidationError

from trailer_ml.errors import SettingsError
from trailer_ml.settings import Settings, StoreSettings, as_environment, load_settings


def test_no_variables_give_the_defaults():
    assert load_settings({"PATH": "/bin"}) == Settings()


def test_every_kind_of_value_is_read():
    settings = load_settings(
        {
            "TRAILER_STORE_ENDPOINT_URL": "http://127.0.0.1:8333",
            "TRAILER_CATALOG_ACCEPT_TERMS": '["tmdb"]',
            "TRAILER_FEATURES_INTERVAL_S": "2.5",
            "TRAILER_FEATURES_FFMPEG_PATH": "null",
            "TRAILER_MEDIA_ALLOWED_EXTRACTORS": '["generic"]',
            "TRAILER_MODEL_BACKBONE_ARGUMENTS": '{"alpha": 0.35}',
            "TRAILER_MODEL_PHASES": '[{"name": "a", "loss": "classifier", "epochs": 1, "learning_rate": 0.1}]',
        }
    )
    assert settings.store.endpoint_url == "http://127.0.0.1:8333"
    assert settings.catalog.accept_terms == ("tmdb",)
    assert settings.features.interval_s == 2.5
    assert settings.features.ffmpeg_path is None
    assert settings.media.allowed_extractors == ("generic",)
    assert settings.model.backbone_arguments == {"alpha": 0.35}
    assert settings.model.phases[0].trainable_layers == 0


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"TRAILER_FEATURES_NFRAMES": "8"}, r"not a setting.*did you mean TRAILER_FEATURES_N_FRAMES\?"),
        ({"TRAILER_NONSENSE": "8"}, "TRAILER_NONSENSE is not a setting"),
        ({"TRAILER_FEATURES_N_FRAMES": "many"}, "TRAILER_FEATURES_N_FRAMES: .*integer.*'many'"),
        ({"TRAILER_FEATURES_N_FRAMES": "0"}, "TRAILER_FEATURES_N_FRAMES: .*greater than or equal to 1"),
        ({"TRAILER_MODEL_PHASES": "[{]"}, "TRAILER_MODEL_PHASES: not valid JSON"),
        ({"TRAILER_MODEL_PHASES": '[{"name": "a"}]'}, "TRAILER_MODEL_PHASES: Field required"),
    ],
)
def test_a_wrong_variable_is_one_clear_error(variables, message):
    with pytest.raises(SettingsError, match=message):
        load_settings(variables)


def test_settings_travel_to_a_child_without_secrets():
    settings = Settings(
        store=StoreSettings(endpoint_url="http://127.0.0.1:1", access_key_id="me", secret_access_key="hush")
    )
    variables = as_environment(settings)
    assert "hush" not in str(variables) and "me" not in variables.values()
    assert load_settings(variables).store.endpoint_url == "http://127.0.0.1:1"
    assert "hush" not in repr(settings)


@pytest.mark.parametrize("secret", ["[hush", "{hush", '["hush"]'])
def test_a_secret_that_looks_like_json_is_taken_as_it_is(secret):
    settings = load_settings({"TRAILER_STORE_SECRET_ACCESS_KEY": secret})
    assert settings.store.secret_access_key.get_secret_value() == secret


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError):
        Settings().features.n_frames = 3  # type: ignore[misc]
