import sys

import numpy as np
import pytest

from ifanp_jax.classical import opencv
from ifanp_jax.errors import UserError

IMAGE = np.random.default_rng(0).random((16, 12, 3), np.float32)


def box():
    mask = np.ones((16, 12, 1), bool)
    mask[4:10, 3:9] = False
    return mask


@pytest.mark.parametrize("method", opencv.METHODS)
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


def test_empty_and_full_masks():
    nothing, everything = np.zeros((16, 12, 1), bool), np.ones((16, 12, 1), bool)
    np.testing.assert_array_equal(opencv.complete("telea", IMAGE, nothing), 0.5)
    np.testing.assert_array_equal(opencv.complete("telea", IMAGE, everything), IMAGE)


def test_what_cannot_be_done_is_one_sentence(monkeypatch):
    with pytest.raises(UserError, match="telea, navier_stokes"):
        opencv.complete("cubic", IMAGE, box())
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match="need OpenCV"):
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
