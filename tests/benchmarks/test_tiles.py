"""Completion by tiles of several sides."""

import numpy as np

from benchmarks import tiles


def test_a_picture_in_tiles_of_two_sides(tiled_model, tmp_path):
    rows = []
    for side in (64, 32):
        path = tmp_path / f"{side}.npy"
        found = tiles.measure(tiled_model, (60, 60), side, str(path))
        difference = float(np.abs(np.load(path) - np.load(tmp_path / "64.npy")).max())
        rows.append({"size": (60, 60), "side": side, "largest_difference": difference} | found)
    assert rows[0]["num_tiles"] == 1 < rows[1]["num_tiles"]
    assert rows[0]["largest_difference"] == 0 < rows[1]["largest_difference"] < 2e-3
    lines = tiles.list_lines(rows)
    assert lines[4].startswith("60x60") and "1 of 64x64" in lines[4] and len(lines) == 6
    assert max(map(len, lines)) <= 80
