"""Evaluation in pieces: the logits of the whole batch, and pieces only for models that gain by them."""

import pytest
import torch
from torch import nn

from runner.models.convolutional import small_cnn
from runner.models.dense import mlp
from runner.training.eval_chunks import chunked_logits, eval_chunk_size, forward_logits
from runner.training.precision.precision import Bfloat16, Precision

CPU = torch.device("cpu")


def small(size):
    torch.manual_seed(0)
    return small_cnn(in_channels=3, num_classes=10, image_size=size).eval().requires_grad_(False)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("precision", "most", "tolerance"), [(Precision(CPU), 32, 1e-5), (Bfloat16(CPU), 64, 0.02)])
@pytest.mark.parametrize("count", [1, 63, 64, 75, 130])
def test_pieces_have_the_logits_of_the_batch(precision, most, tolerance, count):
    model, images = small(32), torch.randn(count, 3, 32, 32)
    seen = []
    model[0].register_forward_hook(lambda layer, inputs, output: seen.append(len(output)))
    with torch.inference_mode():
        found = chunked_logits(model, images, precision)
        pieces = seen[1:] if seen[0] == 1 and count > 1 else seen.copy()  # without the image that is measured first
        torch.testing.assert_close(found, forward_logits(model, images, precision), rtol=tolerance, atol=tolerance)
        assert sum(pieces) == count
        assert max(pieces) <= (count if count < 64 else most)
        assert max(pieces) - min(pieces) <= 1
        # the same pieces when it is asked again, and no image measured again
        seen.clear()
        assert torch.equal(chunked_logits(model, images, precision), found)
        assert seen == pieces


def test_a_piece_follows_from_the_activations_and_heavy_or_dense_models_stay_whole():
    def pieces_of(model, size):
        with torch.inference_mode():
            return eval_chunk_size(model, torch.zeros(1000, 3, size, size), Precision(CPU))

    assert pieces_of(small(32), 32) == 32  # 128 KiB an image in 4 MiB
    assert pieces_of(small(16), 16) == 128
    assert pieces_of(small(64), 64) == 32  # no fewer
    assert pieces_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(3600, 100)), 32) == 1000
    assert pieces_of(mlp(in_channels=3, num_classes=10, image_size=32).eval(), 32) == 1000
