"""The settings of the demo: everything production does, made small enough for two cores and five minutes.

Does not belong here: any switch that production code reads to know that it is a demo. There is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trailer_ml.settings import (
    CatalogSettings,
    EvaluationSettings,
    FeatureSettings,
    IndexSettings,
    MediaSettings,
    ModelSettings,
    PhaseSettings,
    SearchSettings,
    Settings,
    ShardSettings,
)

if TYPE_CHECKING:
    from trailer_ml.settings import StoreSettings


def demo_settings(store: StoreSettings, site_url: str) -> Settings:
    """The demo's settings.

    Args:
        store: where SeaweedFS listens.
        site_url: where the local film site listens, such as `http://127.0.0.1:8123`.
    """
    host = site_url.removeprefix("http://").rstrip("/")
    return Settings(
        store=store,
        catalog=CatalogSettings(
            base_url=site_url,
            accept_terms=("imdb_html",),  # the site is our own
            user_agent="trailer-ml-demo/0.1 (+https://github.com/trailer-ml/trailer-ml)",
            download_delay_s=0.0,
            autothrottle_start_delay_s=0.02,
            batch_size=12,
            max_catch_up_days=0,  # the backfill takes the past
        ),
        media=MediaSettings(
            allowed_extractors=("generic", "html5"),
            allowed_private_hosts=(host,),
            max_duration_s=120.0,
            item_timeout_s=30.0,
            min_free_bytes=256 * 2**20,
            turn_every_s={},  # the site is our own, and nobody else asks it
            backoff_s=0.2,
        ),
        features=FeatureSettings(start_s=1.0, interval_s=2.4, spectrogram_s=24.0),
        shards=ShardSettings(),
        model=ModelSettings(
            backbone="MobileNet",
            backbone_arguments={"alpha": 0.5},
            backbone_layer="conv_pw_6_relu",
            weights="random",
            image_size=96,
            spectrogram_size=96,
            lstm_units=48,
            video_dim=64,
            audio_dim=64,
            phases=(
                PhaseSettings(name="warm-up", loss="classifier", epochs=24, learning_rate=2e-3),
                PhaseSettings(name="triplet-frozen", loss="triplet_semi_hard", epochs=20, learning_rate=1e-3),
                PhaseSettings(
                    name="triplet-top", loss="triplet_semi_hard", epochs=3, learning_rate=1e-4, trainable_layers=9
                ),
            ),
            validation_share=0.0,  # films are few, and these settings have been chosen
            min_films=80,  # of 82: all nine batches are in, so that the first model sees every trailer
        ),
        evaluation=EvaluationSettings(n_copied=8),
        index=IndexSettings(),
        search=SearchSettings(k=5),
    )
