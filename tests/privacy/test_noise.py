import numpy as np
import pytest
import torch
from scipy import stats

from runner.privacy.mechanism.key import SecretKey
from runner.privacy.mechanism.keystream import Keystream
from runner.privacy.mechanism.noise import NoiseSource

CPU = torch.device("cpu")
KEY = SecretKey.from_unsafe_seed(0)


@pytest.fixture(params=[True, False], ids=["chacha20", "philox"])
def source(request):
    return NoiseSource(KEY, secure=request.param)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_million_normals(source, dtype):
    noise = source.normal(3, 1_000_000, CPU, dtype)
    assert noise.dtype == dtype
    assert stats.kstest(noise.numpy(), "norm").pvalue > 1e-3
    assert abs(float(noise.std()) - 1) < 0.004
    # tails: P(|z| > 4) = 6.3e-5
    beyond = int((noise.abs() > 4).sum())
    assert 63.3 - 4 * 8 < beyond < 63.3 + 4 * 8
    assert float(noise.abs().max()) > 4.4


def test_the_halves_of_a_pair_and_neighbours_are_uncorrelated(source):
    noise = source.normal(0, 65_536, CPU, torch.float64)
    for shift in (1, 2, 32_768):
        assert abs(float((noise * noise.roll(shift)).mean())) < 4 / 256
        assert abs(float((noise.square() * noise.square().roll(shift)).mean()) - 1) < 4 * 3 / 256


def test_a_step_repeats_and_no_two_steps_or_keys_share_noise(source):
    noise = source.normal(5, 1001, CPU)
    assert torch.equal(noise, NoiseSource(KEY, secure=source.secure).normal(5, 1001, CPU))
    for other in (
        source.normal(6, 1001, CPU),
        NoiseSource(SecretKey.from_system(), secure=source.secure).normal(5, 1001, CPU),
    ):
        assert not bool((noise == other).any())
        assert abs(float(torch.corrcoef(torch.stack([noise, other]))[0, 1])) < 4 / np.sqrt(1001)


@pytest.mark.parametrize("numel", [0, 1, 2, 65_535, 65_536, 65_537, 131_073])
def test_any_length(source, numel):
    noise = source.normal(0, numel, CPU)
    assert noise.shape == (numel,)
    assert bool(noise.isfinite().all())
    assert numel < 2 or float(noise[-1]) != float(noise[-2])


def test_the_kind_is_named():
    assert [NoiseSource(KEY, secure=secure).kind for secure in (True, False)] == ["chacha20", "philox"]


def test_noise_and_sampling_never_share_a_stream():
    assert KEY.derive("gaussian noise") != KEY.derive("poisson sampling")


def test_the_keystream_is_chacha20():
    # RFC 8439, appendix A.1, test vector 1: key and nonce of zeros, block counter 0
    expected = "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
    assert Keystream(bytes(32), 0).take(32, "<u1").tobytes().hex() == expected


def test_the_keystream_does_not_depend_on_how_it_is_read():
    whole = Keystream(bytes(32), 9).take(1_000_000, "<u1")
    parts = Keystream(bytes(32), 9)
    assert np.array_equal(whole, np.concatenate([parts.take(size, "<u1") for size in (1, 262_144, 99, 737_756)]))


def test_low_bits_of_float64_noise_are_random():
    # float32 noise in a float64 sum would leave the sum's last 29 bits in the clear
    noise = NoiseSource(KEY, secure=True).normal(0, 10_000, CPU, torch.float64)
    assert float((noise == noise.float().double()).double().mean()) < 0.01


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu(source):
    device = torch.device("cuda")
    noise = source.normal(3, 1_000_000, device)
    assert noise.device.type == "cuda"
    assert torch.equal(noise, source.normal(3, 1_000_000, device))
    assert stats.kstest(noise.cpu().numpy(), "norm").pvalue > 1e-3
    if source.secure:
        assert torch.equal(noise.cpu(), source.normal(3, 1_000_000, CPU))
