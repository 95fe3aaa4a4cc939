"""Variations change pictures, and never what a trailer is."""

import numpy as np

from trailer_ml.model.augment import drop_frames, vary_frames, vary_spectrograms


def test_spectrograms_keep_their_shape_and_follow_the_seed() -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (6, 32, 40, 3), dtype=np.uint8)
    varied = vary_spectrograms(pictures, np.random.default_rng(1))
    assert (varied.shape, varied.dtype) == (pictures.shape, np.uint8)
    np.testing.assert_array_equal(varied, vary_spectrograms(pictures, np.random.default_rng(1)))
    assert all((a != b).any() for a, b in zip(pictures, varied, strict=True))


def test_pitch_moves_by_a_few_rows_only() -> None:
    pictures = np.zeros((50, 100, 100, 3), np.uint8)
    pictures[:, 50] = 200
    varied = vary_spectrograms(pictures, np.random.default_rng(2))
    rows = [int(picture.max(axis=(1, 2)).argmax()) for picture in varied]
    assert {abs(row - 50) for row in rows} == set(range(5))


def test_frames_of_a_trailer_are_varied_alike() -> None:
    frame = np.random.default_rng(0).integers(40, 200, (1, 1, 24, 24, 3), dtype=np.uint8)
    varied = vary_frames(np.repeat(np.repeat(frame, 5, axis=1), 3, axis=0), np.random.default_rng(3))
    assert (varied == varied[:, :1]).all()
    assert (varied[0] != varied[1]).any()


def test_a_gain_of_light_never_wraps_round() -> None:
    white = np.full((20, 2, 16, 16, 3), 250, np.uint8)
    # What is printed on a picture covers less than half of it.
    assert np.quantile(vary_frames(white, np.random.default_rng(0)), 0.5) > 150
    varied = vary_frames(white * 0, np.random.default_rng(0))
    assert np.quantile(varied, 0.5, axis=(1, 2, 3, 4)).max() < 50


def test_every_other_trailer_has_letters_and_every_other_a_disc() -> None:
    grey = np.full((200, 1, 64, 64, 3), 128, np.uint8)
    varied = vary_frames(grey, np.random.default_rng(0))[:, 0].astype(int)
    is_printed = (varied != np.median(varied, axis=(1, 2), keepdims=True)).any(axis=-1)
    has_letters = is_printed[:, 40:, 28:36].any(axis=(1, 2))
    has_disc = np.any([is_printed[:, y, x] for y in (3, -4) for x in (3, -4)], axis=0)
    assert 70 < has_letters.sum() < 130
    assert 70 < has_disc.sum() < 150
    assert (has_letters & ~has_disc).sum() > 20


def test_a_part_of_the_picture_is_made_larger() -> None:
    ramp = np.broadcast_to(np.arange(96, dtype=np.uint8)[:, None, None] + 80, (100, 1, 96, 96, 3))
    middle = vary_frames(ramp, np.random.default_rng(0))[:, 0, 15:60, 48].astype(float)
    rise = (middle[:, -1] - middle[:, 0]).mean(axis=-1)  # 44 as it is; tints make it up to a fifth more or less
    assert 30 < np.median(rise) < 42


def test_dropped_frames_leave_order_padding_and_at_least_one() -> None:
    frames = np.tile(np.arange(1.0, 9.0), (200, 1))[..., None]
    mask = np.tile(np.arange(8) < 6, (200, 1))
    kept, kept_mask = drop_frames(frames, mask, np.random.default_rng(0))
    for row, row_mask in zip(kept[..., 0], kept_mask, strict=True):
        n = int(row_mask.sum())
        assert 1 <= n <= 6
        assert row_mask[:n].all()
        assert (np.diff(row[:n]) > 0).all()
        assert (row[n:] == 0).all()
        assert row.max() <= 6
    assert kept_mask.sum() < mask.sum()


def test_a_trailer_without_frames_stays_without() -> None:
    _, mask = drop_frames(np.ones((3, 4, 2)), np.zeros((3, 4), bool), np.random.default_rng(0))
    assert not mask.any()
    kept = [
        drop_frames(np.ones((1, 1, 2)), np.ones((1, 1), bool), np.random.default_rng(s))[1].all() for s in range(50)
    ]
    assert all(kept)
