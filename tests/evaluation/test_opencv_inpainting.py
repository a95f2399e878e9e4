import sys

import numpy as np
import pytest

from ifanp_jax.errors import UserError
from ifanp_jax.evaluation import opencv_inpainting

IMAGE = np.random.default_rng(0).random((16, 12, 3), np.float32)


def box():
    mask = np.ones((16, 12, 1), bool)
    mask[4:10, 3:9] = False
    return mask


@pytest.mark.parametrize("method", opencv_inpainting.METHODS)
def test_equals_opencv_on_the_whole_picture(method):
    cv2 = pytest.importorskip("cv2")
    flag = {"telea": cv2.INPAINT_TELEA, "navier_stokes": cv2.INPAINT_NS}[method]
    mask = box()
    completed = opencv_inpainting.complete(method, IMAGE, mask)
    picture = np.round(255 * np.where(mask, IMAGE, 0)).astype(np.uint8)
    expected = cv2.inpaint(picture, (~mask[:, :, 0]).astype(np.uint8), 3, flag)
    kept = mask[:, :, 0]
    np.testing.assert_allclose(255 * completed[~kept], expected[~kept], atol=1e-3)
    np.testing.assert_array_equal(completed[kept], IMAGE[kept])
    poisoned = opencv_inpainting.complete(method, np.where(mask, IMAGE, np.float32(np.nan)), mask)
    np.testing.assert_array_equal(poisoned, completed)
    grey = opencv_inpainting.complete(method, IMAGE[:, :, :1], mask)
    np.testing.assert_array_equal(grey, completed[:, :, :1])


def test_empty_and_full_masks():
    nothing, everything = np.zeros((16, 12, 1), bool), np.ones((16, 12, 1), bool)
    np.testing.assert_array_equal(opencv_inpainting.complete("telea", IMAGE, nothing), 0.5)
    np.testing.assert_array_equal(opencv_inpainting.complete("telea", IMAGE, everything), IMAGE)


def test_what_cannot_be_done_is_one_sentence(monkeypatch):
    with pytest.raises(UserError, match="telea, navier_stokes"):
        opencv_inpainting.complete("cubic", IMAGE, box())
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match="need OpenCV"):
        opencv_inpainting.complete("telea", IMAGE, box())
    with pytest.raises(AssertionError):
        opencv_inpainting.complete("telea", np.zeros((16, 12, 3), np.uint8), box())
