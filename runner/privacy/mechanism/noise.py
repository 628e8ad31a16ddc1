"""Gaussian noise as a pure function of (secret key, step)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import numpy as np
import torch

from runner.privacy.mechanism.key import KEY_BYTES, SecretKey
from runner.privacy.mechanism.keystream import Keystream

# Pairs per pass: the temporaries of one pass stay in a core's cache.
_PAIRS = 1 << 15
_LOW_53 = (1 << 53) - 1


class NoiseSource:
    """Standard normal noise that repeats for a step and shares nothing between steps.

    A resumed run replays a step to the same bits, and every process of a run adds the same noise to the same sum.

    ``secure=True`` draws from ChaCha20 on the CPU and copies to the device.  ``secure=False`` draws from a Philox
    counter generator on the device: statistically sound, yet not proven secret against an adversary with enough
    outputs.

    Two noises for one step would be a second release that nobody counts, so a run keeps to one (``form``).  Should two
    come about all the same, by another generator, type or ``layout``, they are independent: had they the same numbers
    in other places, the difference of two releases would give the noise away, and with it the gradients.
    """

    def __init__(self, key: SecretKey, *, secure: bool, layout: str = "") -> None:
        """``layout`` names which number of the noise falls on which parameter: see ``layout_of``."""
        self._key = key.derive("gaussian noise")
        self.secure = secure
        self.layout = layout

    @property
    def kind(self) -> str:
        """The generator's name for the records: ``chacha20`` or ``philox``."""
        return "chacha20" if self.secure else "philox"

    def form(self, device: torch.device, dtype: torch.dtype) -> dict[str, str]:
        """What the noise is a function of besides key and step, in plain values: what a run has to keep to.

        ``generator`` with what computes it (numpy's and torch's Philox give other numbers, torch's depend on the
        processor too), ``dtype`` and ``layout``.
        """
        return {"generator": self._generator(device), "dtype": f"{dtype}".removeprefix("torch."), "layout": self.layout}

    def _generator(self, device: torch.device) -> str:
        if self.secure:
            return self.kind
        if device.type == "cpu":
            return f"{self.kind} of numpy {np.__version__}"
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        return f"{self.kind} of torch {torch.__version__} on {name}"

    def normal(self, step: int, numel: int, device: torch.device, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Independent standard normals [numel] of ``dtype`` (float32 or float64) on ``device``, for update ``step``."""
        form = repr(sorted(self.form(device, dtype).items())).encode()
        key = hashlib.blake2b(form, key=self._key, digest_size=KEY_BYTES).digest()
        if self.secure:
            return _secure_normal(Keystream(key, step), numel, dtype).to(device)
        # keyed hashing spreads the steps over the whole seed space, so that no two streams overlap
        seed = hashlib.blake2b(step.to_bytes(8, "little"), key=key, digest_size=16).digest()
        if device.type == "cpu":
            # torch's CPU generator keeps 32 bits of its seed: over 1500 steps two of them would share their noise
            # with probability 3e-4.  NumPy's Philox takes all 128.
            generator = np.random.Generator(np.random.Philox(key=int.from_bytes(seed, "little")))
            width = np.float64 if dtype == torch.float64 else np.float32
            return torch.from_numpy(generator.standard_normal(numel, dtype=width))
        device_generator = torch.Generator(device).manual_seed(int.from_bytes(seed[:8], "little", signed=True))
        return torch.randn(numel, dtype=dtype, device=device, generator=device_generator)


def layout_of(parameters: Mapping[str, torch.Tensor]) -> str:
    """Which number of a flat buffer belongs to which weight: names, shapes and memory order, in turn.

    Memory order counts because the parts of the buffer have that of their parameters (``gradient_views``).

    Returns:
        ``contiguous``, or ``channels_last`` where some parameter is not, and a SHA-256 (hex).
    """
    strides = [torch.empty_like(parameter, device="meta").stride() for parameter in parameters.values()]
    plain = all(parameter.is_contiguous() for parameter in parameters.values())
    every = [
        (name, tuple(parameter.shape), stride)
        for (name, parameter), stride in zip(parameters.items(), strides, strict=True)
    ]
    return f"{'contiguous' if plain else 'channels_last'} {hashlib.sha256(repr(every).encode()).hexdigest()}"


def _secure_normal(stream: Keystream, numel: int, dtype: torch.dtype) -> torch.Tensor:
    """Box and Muller (1958): z = sqrt(-2 ln u) (cos 2 pi v, sin 2 pi v).

    u has 53 random bits and float64 arithmetic, which reaches |z| = 8.6 (a mass of 1e-17 lies beyond).  v has 32 bits
    for float32 results and 53 for float64 ones.  A float32 pair thus rounds 85 random bits to 48: nearly every
    float32 near the middle can occur, so that the low bits of a noised sum do not give the sum away (Mironov 2012).
    """
    wide = dtype == torch.float64
    out = torch.empty(2 * math.ceil(numel / 2), dtype=dtype)
    words = np.empty(_PAIRS * (4 if wide else 3), "<u4")
    random = torch.from_numpy(words.view(np.int32))
    for start in range(0, len(out), 2 * _PAIRS):
        block = out[start : start + 2 * _PAIRS]
        pairs = len(block) // 2
        stream.fill(words[: pairs * (4 if wide else 3)])
        radius = _unit(random[: 2 * pairs].view(torch.int64)).log_().mul_(-2.0).sqrt_().to(dtype)
        if wide:
            angle = _unit(random[2 * pairs : 4 * pairs].view(torch.int64)).mul_(2.0 * math.pi)
        else:
            # signed words cover [-pi, pi), where float32 keeps more of them apart than in [0, 2 pi)
            angle = random[2 * pairs : 3 * pairs].to(torch.float32).mul_(math.pi / 2**31)
        torch.mul(torch.cos(angle), radius, out=block[:pairs])
        torch.mul(angle.sin_(), radius, out=block[pairs:])
    return out[:numel]


def _unit(words: torch.Tensor) -> torch.Tensor:
    """Uniforms in (0, 1], float64, from the low 53 bits of int64 ``words``; the half keeps ln u finite."""
    return words.bitwise_and(_LOW_53).to(torch.float64).add_(0.5).mul_(2.0**-53)
