"""One answer to what a device computes natively: from its own flags, in the plan, the advice and the run's record."""

import json

import pytest

from runner.planning.device import detect_device
from runner.planning.native_types import natives_of, of_capability, of_processor

ZEN_5 = {"avx2", "avx512_f", "avx512_bf16", "avx512_vnni"}
SAPPHIRE_RAPIDS = {"avx512_f", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8"}


@pytest.mark.parametrize(
    ("flags", "limit", "told"),
    [
        ({"avx2", "fma3", "f16c"}, None, "bf16 no, fp16 no, tf32 no"),
        ({"avx2", "avx_ne_convert"}, None, "bf16 no, fp16 no, tf32 no"),
        (ZEN_5, None, "bf16 yes, fp16 no, tf32 no (avx512_bf16)"),
        (ZEN_5, "AVX512_CORE", "bf16 no, fp16 no, tf32 no"),
        (ZEN_5, "avx512_core_bf16", "bf16 yes, fp16 no, tf32 no (avx512_bf16)"),
        (ZEN_5, "ALL", "bf16 yes, fp16 no, tf32 no (avx512_bf16)"),
        (SAPPHIRE_RAPIDS, None, "bf16 yes, fp16 yes, tf32 no (avx512_bf16, amx_bf16, avx512_fp16)"),
        (SAPPHIRE_RAPIDS, "AVX512_CORE_FP16", "bf16 yes, fp16 yes, tf32 no (avx512_bf16, avx512_fp16)"),
        (SAPPHIRE_RAPIDS, "AVX2", "bf16 no, fp16 no, tf32 no"),
        ({"amx_tile", "amx_int8"}, None, "bf16 no, fp16 no, tf32 no"),
        ({"neon", "bf16", "fp16_arith"}, None, "bf16 yes, fp16 yes, tf32 no (bf16, fp16_arith)"),
    ],
)
def test_a_processor_is_taken_at_its_flags(flags, limit, told):
    assert str(of_processor(flags, limit=limit)) == told


@pytest.mark.parametrize(
    ("capability", "told"),
    [
        ((6, 1), "bf16 no, fp16 no, tf32 no (compute capability 6.1)"),
        ((7, 0), "bf16 no, fp16 yes, tf32 no (compute capability 7.0)"),
        ((9, 0), "bf16 yes, fp16 yes, tf32 yes (compute capability 9.0)"),
    ],
)
def test_a_gpu_is_taken_at_its_compute_capability(capability, told):
    assert str(of_capability(*capability, bf16=capability >= (8, 0))) == told


@pytest.mark.parametrize("flags", [ZEN_5, {"avx2"}])
def test_plan_advice_and_record_give_one_answer(configure, train, monkeypatch, flags):
    import torch

    from runner.forecast.advice import advise, describe_advice
    from runner.forecast.assess import assess
    from runner.forecast.describe import describe, described

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(flags, True))
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    facts = of_processor(flags)
    recipe = ("hardware=cpu", "hardware.threads=1", "data.limit=60", "model=linear", "trainer.epochs=1")
    config = configure(*recipe)
    assert detect_device(config.hardware).native == natives_of("cpu") == facts
    assessment = assess(config, probe=False)
    assert any(line.startswith("device ") and line.endswith(f"native: {facts}") for line in describe(assessment))
    assert described(assessment)["device"]["native"]["bf16"] is facts.bf16
    advice = "\n".join(describe_advice(advise(config, list(recipe), probe=False)))
    assert f"Is bfloat16 native? {'yes (avx512_bf16)' if facts.bf16 else 'no'}: " in advice
    kept = json.loads((train(*recipe) / "run.json").read_text())["environment"]["native"]["cpu"]
    assert kept == {"bf16": facts.bf16, "fp16": False, "tf32": False, "stated": list(facts.stated)}
