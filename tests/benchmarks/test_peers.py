"""Our models beside others."""

import dataclasses
import json
import os

import numpy as np
import pytest

from benchmarks import peer_processes, peers
from ifanp_jax.errors import UserError

TINY = peers.Effort(
    turns=1,
    seconds=0.0,
    batch_size=2,
    picture_size=32,
    model_fields={
        "width": 8, "latent_dim": 4, "widths": (4, 8, 8, 8), "encoder_depth": 1, "decoder_depth": 2,
    },
)  # fmt: skip
TORCH = peer_processes.find_python("torch", tuple(filter(None, [os.environ.get("PEERS_PYTHON")])))


@pytest.mark.skipif(TORCH is None, reason="PyTorch is missing; PEERS_PYTHON may name a Python that has it")
@pytest.mark.parametrize("name", [name for name, family in peers.FAMILIES.items() if family.torch])
def test_the_networks_in_pytorch_are_ours(name, tmp_path):
    for peer in peers.make_members(name, tmp_path, TINY):
        if peer.kind == "torch":
            with peer_processes.Worker(peer, TORCH) as worker:
                assert worker.facts["num_parameters"] > 0 and worker.facts["images"] == 2
                worker.ask("check")
                assert peers.largest_difference(peer.folder) < 1e-5
                assert worker.ask("complete")["milliseconds"][0] > 0


def test_a_cheaper_shape_takes_its_turn_beside_the_model_and_its_peers(tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "expect", lambda *_: (np.zeros(1), {}))  # what the peers are compared with
    own, *peers_in_torch, cheaper = peers.make_members("MultiscaleNP", tmp_path, TINY)
    assert [peer.kind for peer in peers_in_torch] == ["torch", "torch"]
    assert cheaper.name == "this package, a block less at the coarsest level"
    counts = []
    for peer in (own, cheaper):
        task, weights = json.loads((peer.folder / "task.json").read_text()), np.load(peer.folder / "task.npz")
        counts.append((task["fields"]["down_blocks"], sum(name.startswith("weights/") for name in weights)))
    assert counts == [([1, 1, 2, 2], 65), ([1, 1, 2, 1], 61)]


def test_all_members_see_as_many_observed_pixels():
    arrays = peers.make_arrays(TINY)
    assert arrays["image"].shape == (2, 32, 32, 3) and arrays["image"].dtype == np.float32
    np.testing.assert_array_equal(arrays["mask"].sum(axis=(1, 2, 3)), [307, 307])
    assert arrays["picture_mask"].sum() == round(0.4 * 32 * 32)


def test_a_python_that_does_not_run_is_one_sentence():
    with pytest.raises(UserError, match="--peers_python=/nowhere/python does not run"):
        peer_processes.find_python("torch", ("/nowhere/python",))


def test_a_peer_that_fails_is_one_sentence(tmp_path):
    (tmp_path / "task.json").write_text("{}")
    np.savez(tmp_path / "task.npz")
    peer = peer_processes.Peer("a peer", "opencv", tmp_path)
    with pytest.raises(UserError, match="a peer ended by itself: KeyError: 'model'"):
        peer_processes.Worker(peer, peer_processes.find_python("opencv", ()) or pytest.skip("no OpenCV"))


@pytest.mark.slow
def test_a_run_has_a_row_for_each_member_and_names_what_is_missing():
    effort = dataclasses.replace(TINY, families=("CNP", "no training"))
    result = peers.run(effort=effort)
    rows = {row["name"]: row for row in result["rows"]}
    assert rows["this package"]["images_per_second"] > 0 and rows["this package"]["picture_milliseconds"] > 0
    assert rows["skimage biharmonic"]["picture_milliseconds"] > 0
    assert "images_per_second" not in rows["skimage biharmonic"]
    assert ("dl4bi" in result["left_out"]) == ("dl4bi CNP" not in rows)
    lines = "\n".join(peers.list_lines(result))
    assert "| CNP | this package |" in lines
    assert all(f"Left out: {name}: " in lines for name in result["left_out"])
