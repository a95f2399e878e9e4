"""The adversarial step, over every family of inpainters."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ifanp_jax
from configs import default
from ifanp_jax.data.sampling import Batch
from ifanp_jax.errors import UserError
from ifanp_jax.evaluation import evaluate
from ifanp_jax.evaluation.options import Options
from ifanp_jax.inference import export
from ifanp_jax.inpainters import adversaries
from ifanp_jax.training import loop, runs
from tests import helpers, tiny
from tests.inpainters import trainings as inpainters
from tests.inpainters.trainings import CHEAPEST, MODELS, build, build_whole, draw_batches, make_run
from tests.training import short_run

KEY = jax.random.key(3)
TERMS = ("l1", "mse", "autoencoder", "guidance", "style", "adversarial")
PHASES = {
    "train.num_steps": 9,
    "step.generator_only_fraction": 1 / 3,
    "step.critic_only_fraction": 1 / 3,
}


def has_changed(before, after):
    """Whether each leaf changed, by its name."""
    before, after = jax.device_get((before, after))  # a comparison of each shape would be compiled
    pairs = zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True)
    return {jax.tree_util.keystr(path): bool(np.any(a != b)) for (path, a), b in pairs}


@pytest.mark.parametrize(
    ("make", "name"),
    [(build, "deepfill.DeepFill64"), (build, "glcic.GLCIC")]
    + [pytest.param(build_whole, name, marks=pytest.mark.slow) for name in MODELS],
)
def test_two_updates_change_every_network(make, name):
    run, before, update = make(name, **PHASES) if name.startswith("glcic") and make is build else make(name)
    before = before.replace(step=np.int32(7))  # where the phases of GLCIC are over
    once, metrics = jax.device_get(update(KEY, before, draw_batches(run)))
    twice, more = jax.device_get(update(KEY, once, draw_batches(run, seed=1)))
    chex.assert_tree_all_finite((twice, metrics, more))
    chex.assert_trees_all_equal_shapes_and_dtypes(twice, before)
    assert int(twice.step) == 9
    for side in ("generator", "critics"):
        changed = has_changed(getattr(once, side).params, getattr(twice, side).params)
        # Normalisation takes a bias before it away.
        assert all(changed.values()) or all("bias" in path for path in changed if not changed[path])
        assert all(has_changed(getattr(once, side).batch_stats, getattr(twice, side).batch_stats).values())
    assert all(has_changed(once.average, twice.average).values())
    losses = set(metrics) & {f"{term}_loss" for term in TERMS}
    assert len(losses) >= 2
    np.testing.assert_allclose(metrics["generator_loss"], sum(metrics[name] for name in losses), rtol=1e-5)
    assert "psnr" in run.step.show({name: float(value) for name, value in metrics.items()})


def test_phases_train_one_side_and_leave_the_bits_of_the_other():
    run, start, update = build("glcic.GLCIC", **PHASES)
    for step, trains_critics, trains_generator in ((1, False, True), (4, True, False), (7, True, True)):
        before = start.replace(step=np.int32(step))
        after, metrics = jax.device_get(update(KEY, before, draw_batches(run)))
        chex.assert_tree_all_finite((after, metrics))
        for side, is_trained in (("critics", trains_critics), ("generator", trains_generator)):
            changed = has_changed(getattr(before, side), getattr(after, side)).values()
            assert any(changed) == is_trained
        assert (metrics["adversarial_loss"] > 0) == trains_critics


def test_critics_learn_to_refuse_what_the_generator_completes():
    run, state, update = build("glcic.GLCIC", **PHASES)
    found = []
    for _ in range(3):  # of the critics alone
        state, metrics = update(KEY, state.replace(step=np.int32(4)), draw_batches(run))
        found.append(float(metrics["adversarial_loss"]))
    assert found[0] < found[1] < found[2]


def test_each_side_learns_from_its_own_images():
    run, start, update = build("glcic.GLCIC", **PHASES)
    start = start.replace(step=np.int32(7))
    batches, others = draw_batches(run), draw_batches(run, seed=1)
    given = Batch(image=np.stack([others.image[0], batches.image[1]]), mask=batches.mask)
    expected, found = (update(KEY, start, one)[0] for one in (batches, given))
    assert any(has_changed(expected.critics, found.critics).values())
    given = Batch(image=np.stack([batches.image[0], others.image[1]]), mask=batches.mask)
    found = update(KEY, start, given)[0]
    chex.assert_trees_all_equal(found.critics, expected.critics)
    assert any(has_changed(expected.generator, found.generator).values())
    first = start.replace(step=np.int32(0))  # the generator does not heed its critics yet
    given = Batch(image=np.stack([others.image[0], batches.image[1]]), mask=batches.mask)
    expected, found = (update(KEY, first, one)[0] for one in (batches, given))
    chex.assert_trees_all_equal(found.generator, expected.generator)


def test_without_critics_there_is_one_batch_and_one_network():
    run = make_run(CHEAPEST, **{"step.adversarial": "none"})
    state = runs.abstract_state(run)
    assert run.step.num_batches == 1 and not jax.tree.leaves(state.critics.params)
    _, metrics = jax.eval_shape(run.step.update, KEY, state, draw_batches(run))
    assert "critic_loss" not in metrics and "critic_loss" not in run.step.finite_metrics
    assert "critic" not in run.step.show(dict.fromkeys(metrics, 1.0))


def test_a_run_ends_where_either_side_is_not_finite():
    step = make_run(CHEAPEST).step
    assert set(step.finite_metrics) == {"generator_loss", "grad_norm", "critic_loss"}
    assert "config.step.learning_rate" in step.remedy and "config.step.critic_learning_rate" in step.remedy


def test_bfloat16_is_of_the_networks_alone():
    run = make_run(CHEAPEST, **{"model.compute_dtype": "bfloat16"})
    state = runs.abstract_state(run)
    after, metrics = jax.eval_shape(run.step.update, KEY, state, draw_batches(run))
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    chex.assert_type([*metrics.values()], jnp.float32)


def train(workdir, *, wrap_steps=lambda steps: steps, **overrides):
    config = inpainters.make_config(**{"mask.kind": "top"} | overrides)
    return loop.run(config, workdir, inpainters.dataset(), wrap_steps=wrap_steps)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of 6 steps."""
    folder = tmp_path_factory.mktemp("adversarial")
    train(folder)
    return folder


def test_resumed_equals_uninterrupted(folder, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, wrap_steps=short_run.stop_at(4))
    run = train(tmp_path)
    chex.assert_trees_all_equal(run.state, runs.load(folder).state)
    assert helpers.read_rows(tmp_path) == helpers.read_rows(folder)
    row = helpers.read_rows(folder)[0]
    assert {"train/critic_loss", "train/mse_loss", "train/adversarial_loss"} <= set(row)


def test_the_average_completes_is_evaluated_and_exported(folder, tmp_path):
    run, dataset = runs.load(folder), inpainters.dataset()
    assert set(run.variables) == {"params", "batch_stats"}
    chex.assert_trees_all_equal(run.variables, run.state.average)
    image = dataset.evaluation[0]
    mask = helpers.left_half(16, 16)
    result = ifanp_jax.load(folder).complete(image, mask, num_samples=2)
    np.testing.assert_array_equal(result.samples[0], result.samples[1])
    export.write(run.model, tmp_path / "out", num_samples=1)
    exported = ifanp_jax.load(tmp_path / "out").complete(image, mask, num_samples=2)
    np.testing.assert_allclose(exported.samples, result.samples, atol=1e-6)
    contexts = np.broadcast_to(mask[None, ..., None], (10, 16, 16, 1))
    values = evaluate.evaluate_images(run.model, dataset.evaluation, contexts, Options.of(run.config))
    assert {"psnr", "psnr_unobserved", "ssim"} <= set(values) and not {"kl", "log_prob"} & set(values)


def test_bad_pictures_are_one_sentence(folder):
    model, image, mask = ifanp_jax.load(folder), inpainters.dataset().evaluation[0], helpers.left_half(16, 16)
    with pytest.raises(UserError, match=r"\(16, 16, 1\).*\(H, W, 3\)"):
        model.complete(image[..., :1], mask)
    with pytest.raises(UserError, match=r"18x18.*--size=trained"):
        model.complete(np.zeros((18, 18, 3), np.uint8), helpers.left_half(18, 18), size="own")
    with pytest.raises(UserError, match="no observed pixel"):
        model.complete(image, np.zeros((16, 16), bool))


def test_a_configuration_holds_the_fields_of_its_adversary():
    for name in MODELS:
        config = default.get_config(name)
        run = runs.make(config, inpainters.image_shape(name))
        fields = adversaries.get(run.module).fields
        assert config.step.to_dict() == {"name": ""} | fields
        assert set(adversaries.COMMON_FIELDS) <= set(fields)
        assert run.step.num_batches == config.step.num_critic_updates + 1
        assert run.step.schedule(100) == config.step.learning_rate


@pytest.mark.parametrize(
    ("name", "overrides", "facts"),
    [
        (CHEAPEST, {"step.adversarial": "wgan_gp"}, ("wgan_gp", "dcgan, lsgan, hinge, none")),
        (CHEAPEST, {"step.adversarial": "gan"}, ("gan", "dcgan, lsgan, hinge, none")),
        (CHEAPEST, {"step.num_critic_updates": 0}, ("0", "at least 1")),
        (CHEAPEST, {"step.mse_weight": -1.0}, ("-1.0", "at least 0")),
        ("deepfill.DeepFill64", {"step.gamma": 2.0}, ("2.0", "0 and 1")),
        ("glcic.GLCIC", {"step.critic_only_fraction": 1.5}, ("1.5", "0 and 1")),
    ],
)
def test_a_wrong_field_is_one_sentence(name, overrides, facts):
    with pytest.raises(UserError) as raised:
        runs.make(inpainters.make_config(name, **overrides), inpainters.image_shape(name))
    assert all(fact in str(raised.value) for fact in (f"config.{next(iter(overrides))}", *facts))


def test_a_step_takes_its_own_fields_and_models_alone():
    with pytest.raises(UserError, match=r"config\.step\.adversarial .* elbo"):
        runs.make(inpainters.make_config(**{"step.name": "elbo"}), inpainters.image_shape())
    with pytest.raises(UserError, match=r"image_np\.IFANP .*context_encoder, deepfill"):
        runs.make(tiny.make_config(**{"step.name": "adversarial"}), (8, 8, 1))
