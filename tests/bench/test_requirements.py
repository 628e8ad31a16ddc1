"""Limits beside what was found."""

from runner.bench.requirements import requirement_rows


def rows(**seconds):
    samples = [
        {"section": "recipes_resnet18", "contender": name, "round": number, "cpu_seconds": value}
        for name, values in seconds.items()
        for number, value in enumerate(values)
    ]
    return {row[0]: row for row in requirement_rows(samples)}


def test_precision_auto_is_held_against_the_fastest_of_the_others_and_not_against_the_control():
    asked = "precision=auto, resnet18: time over the fastest recipe set by hand"
    others = {"fp32, contiguous": [4.0] * 3, "fp32, contiguous, again": [1.0] * 3, "bf16, contiguous": [2.0] * 3}
    kept = rows(**others, **{"precision=auto": [2.02] * 3})[asked]
    assert (kept[2], kept[-1]) == ("**1.010**", "yes")
    missed = rows(**others, **{"precision=auto": [2.1] * 3})[asked]
    assert (missed[2], missed[-1]) == ("**1.050**", "**no**")


def test_an_open_memory_format_is_held_against_the_better_one_of_its_type():
    asked = "bf16, the memory format left open, resnet18: time over the better format"
    others = {"fp32, contiguous": [1.0] * 3, "fp32, contiguous, again": [1.0] * 3, "bf16, contiguous": [2.0] * 3}
    kept = rows(**others, **{"bf16, channels_last": [3.0] * 3, "bf16, hardware=auto": [2.02] * 3})[asked]
    assert (kept[2], kept[-1]) == ("**1.010**", "yes")
    missed = rows(**others, **{"bf16, channels_last": [1.9] * 3, "bf16, hardware=auto": [2.02] * 3})[asked]
    assert missed[-1] == "**no**"


def test_what_was_not_measured_has_no_row_but_for_a_gpu():
    assert all(row[2] == "unmeasured" and row[0].startswith("GPU") for row in rows().values())


def test_limits_of_a_gpu_are_judged_where_it_was_measured():
    def judged(section, **medians):
        samples = [
            {"section": section, "contender": name, "round": number, "seconds": seconds}
            for name, seconds in medians.items()
            for number in range(3)
        ]
        return {row[0]: row[2:] for row in requirement_rows(samples)}

    script = {"by hand, bf16": 1.0, "by hand, bf16, again": 1.0}
    found = judged("tuned_cuda_resnet50", **script, **{"runner, bf16": 1.25, "fp32, in planes": 2.0})
    by_hand = "GPU, resnet50 at 224 px, bf16: updates a second over a script tuned by hand"
    assert found[by_hand][0] == "**0.800**"
    assert found[by_hand][-1] == "**no**"
    assert found["GPU, resnet50 at 224 px: updates a second over float32 in planes"][-1] == "yes"
    assert found["GPU, vit_b_16 at 224 px, bf16: updates a second over a script tuned by hand"][0] == "unmeasured"
    assert found["GPU: resnet50's share of the FLOP limit and of the memory bandwidth"][0] == "see below"
    assert found["GPU: float32, float16 and bfloat16 beside each other"][0] == "unmeasured"
