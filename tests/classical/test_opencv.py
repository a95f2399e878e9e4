import sys
import types

import numpy as np
import pytest

from ifanp_jax.classical import opencv
from ifanp_jax.errors import UserError

IMAGE = np.random.default_rng(0).random((16, 12, 3), np.float32)


def box():
    mask = np.ones((16, 12, 1), bool)
    mask[4:10, 3:9] = False
    return mask


def has_contributed_modules():
    return "fsr" not in opencv.missing_methods()


@pytest.mark.parametrize("method", ["telea", "navier_stokes"])
def test_equals_opencv_on_the_whole_picture(method):
    cv2 = pytest.importorskip("cv2")
    flag = {"telea": cv2.INPAINT_TELEA, "navier_stokes": cv2.INPAINT_NS}[method]
    mask = box()
    completed = opencv.complete(method, IMAGE, mask)
    picture = np.round(255 * np.where(mask, IMAGE, 0)).astype(np.uint8)
    expected = cv2.inpaint(picture, (~mask[:, :, 0]).astype(np.uint8), 3, flag)
    kept = mask[:, :, 0]
    np.testing.assert_allclose(255 * completed[~kept], expected[~kept], atol=1e-3)
    np.testing.assert_array_equal(completed[kept], IMAGE[kept])
    poisoned = opencv.complete(method, np.where(mask, IMAGE, np.float32(np.nan)), mask)
    np.testing.assert_array_equal(poisoned, completed)
    grey = opencv.complete(method, IMAGE[:, :, :1], mask)
    np.testing.assert_array_equal(grey, completed[:, :, :1])


@pytest.mark.skipif(not has_contributed_modules(), reason="OpenCV's contributed modules are not installed")
@pytest.mark.parametrize(("method", "least"), [("fsr", 40), ("shift_map", 30)])
def test_the_contributed_methods_go_on_with_a_pattern(method, least):
    rows, columns = np.mgrid[:48, :64]
    wave = 0.5 + 0.3 * np.sin(2 * np.pi * columns / 8) * np.cos(2 * np.pi * rows / 8)
    picture = np.stack([wave, 1 - wave, 0.5 + 0 * wave], -1).astype(np.float32)
    mask = np.ones((48, 64, 1), bool)
    mask[16:26, 24:38] = mask[:6, :6] = False  # the corner too
    poisoned = np.where(mask, picture, np.float32(np.nan))
    completed = opencv.complete(method, poisoned, mask)
    np.testing.assert_array_equal(completed[mask[..., 0]], picture[mask[..., 0]])
    error = np.square(completed - picture)
    assert -10 * np.log10(error[16:26, 24:38].mean()) > least
    assert (
        -10 * np.log10(error[:6, :6].mean()) > 20
    )  # black without the mirrored margin, or without Lab's return
    grey = opencv.complete(method, poisoned[..., :1], mask)
    assert grey.shape == (48, 64, 1) and np.square(grey - picture[..., :1])[~mask].mean() < 0.01


def test_empty_and_full_masks():
    nothing, everything = np.zeros((16, 12, 1), bool), np.ones((16, 12, 1), bool)
    np.testing.assert_array_equal(opencv.complete("telea", IMAGE, nothing), 0.5)
    np.testing.assert_array_equal(opencv.complete("telea", IMAGE, everything), IMAGE)


def test_what_cannot_be_done_is_one_sentence(monkeypatch):
    with pytest.raises(UserError, match="telea, navier_stokes"):
        opencv.complete("cubic", IMAGE, box())
    monkeypatch.setitem(sys.modules, "cv2", types.ModuleType("cv2"))  # without the contributed modules
    assert opencv.missing_methods() == opencv.CONTRIBUTED
    with pytest.raises(UserError, match="fsr needs OpenCV: install opencv-contrib"):
        opencv.complete("fsr", IMAGE, box())
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert opencv.missing_methods() == opencv.METHODS
    with pytest.raises(UserError, match="telea needs OpenCV: install opencv-python"):
        opencv.complete("telea", IMAGE, box())
    with pytest.raises(AssertionError):
        opencv.complete("telea", np.zeros((16, 12, 3), np.uint8), box())


@pytest.mark.parametrize("channels", [1, 3])
def test_a_blended_answer_keeps_its_detail_and_meets_the_picture_at_the_hole(channels):
    pytest.importorskip("cv2")
    rows, columns = np.mgrid[:40, :32]
    picture = 0.5 + 0.2 * np.sin(rows / 3)[..., None] * np.cos(columns / 4)[..., None]
    picture = np.broadcast_to(picture, (40, 32, channels)).astype(np.float32)
    mask = np.ones((40, 32, 1), bool)
    mask[8:30, 6:26] = False
    darker = picture - np.float32(0.2)
    blended = opencv.blend(darker, np.where(mask, picture, np.float32(np.nan)), mask)
    assert blended.shape == picture.shape and blended.dtype == np.float32
    np.testing.assert_array_equal(blended[mask[..., 0]], picture[mask[..., 0]])
    hole = ~mask[..., 0]
    error = np.abs(blended - picture)[hole].mean()
    assert error < 0.25 * np.abs(darker - picture)[hole].mean()  # gradients are kept, the offset is not
    corner = np.ones((40, 32, 1), bool)
    corner[:20, :16] = False  # touches the border
    errors = [
        np.abs(filled - picture)[~corner[..., 0]].mean()
        for filled in (
            opencv.blend(picture, picture, corner),
            opencv.complete("telea", picture, corner, radius=opencv.FINISH_RADIUS),
        )
    ]
    assert errors[0] < 0.6 * errors[1]  # Telea's is what is met along the hole
    for everything in (np.zeros_like(mask), np.ones_like(mask)):
        np.testing.assert_array_equal(opencv.blend(picture, picture, everything), picture)
