"""One small film world for all tests of the studio and the site."""

from pathlib import Path

import pytest

from trailer_ml.demo.studio import make_world


@pytest.fixture(scope="session")
def world_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """18 films of four to five seconds, odd ones included."""
    folder = tmp_path_factory.mktemp("world")
    make_world(folder, n_films=18, seconds=4.0)
    return folder
