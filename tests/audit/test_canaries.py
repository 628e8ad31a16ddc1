import numpy as np
import pytest
import torch

from runner.audit.canaries import coins, every_canary
from runner.data.open import open_data
from runner.errors import RequestError
from runner.models.dense import linear, mlp
from runner.privacy.example_gradients.grad_sample import per_example_gradients


@pytest.fixture
def opened(configure):
    return lambda *overrides: open_data(configure("experiment=audit", "data.canaries=50", *overrides).data)


def pixels(images):
    return images.images[images.rows].reshape(len(images), -1)


def test_a_canary_lights_its_own_pixel_and_no_other_image_does(opened):
    data = opened()
    assert (pixels(every_canary(data, 50)) == 255 * np.eye(50, data.image_size**2, dtype=np.uint8)).all()
    assert not pixels(data.train)[50:, :50].any()
    assert not pixels(data.test)[:, :50].any()


def test_coins_tell_who_is_present_and_the_absent_are_black(opened):
    data = opened()
    present = coins(data, 50)
    assert 10 < present.sum() < 40
    assert (pixels(data.train)[:50].any(axis=1) == present).all()
    assert len(data.train) == 250


def test_coins_follow_from_the_split_seed_and_change_the_fingerprint(opened):
    first, again, other = opened(), opened(), opened("data.split_seed=1")
    assert (coins(first, 50) == coins(again, 50)).all()
    assert (coins(first, 50) != coins(other, 50)).any()
    assert first.fingerprint == again.fingerprint != other.fingerprint


@pytest.mark.parametrize("model", [linear, mlp])
def test_an_absent_canary_has_the_gradient_zero_when_there_is_no_bias(model):
    """So leaving it black equals taking it out, as the neighbouring relation of the claim wants it."""

    def norm(bias):
        network = model(in_channels=1, num_classes=10, image_size=4, bias=bias)
        gradients = per_example_gradients("functional", network, loss=_loss, forward=torch.enable_grad, scale=1.0)
        return sum(float(g.rows().norm()) for g in gradients(torch.zeros(1, 1, 4, 4), torch.tensor([3])).gradients)

    assert norm(bias=False) == 0.0
    assert norm(bias=True) > 0.0


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("data.canaries=3", "data.canaries"),
        ("data.others=0", "data.others"),
        ("data.image_size=28", "data.image_size"),
        ("data.channels=3 data.mean=[0,0,0] data.std=[1,1,1]", "data.channels"),
    ],
)
def test_what_makes_no_canaries_is_refused(opened, override, key):
    with pytest.raises(RequestError) as refused:
        opened(*override.split())
    assert refused.value.key == key


def _loss(logits, labels):
    return torch.nn.functional.cross_entropy(logits, labels, reduction="none")
