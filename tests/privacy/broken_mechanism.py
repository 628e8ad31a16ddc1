"""Break the private mechanism in the ways in which libraries get it wrong, and see which tests notice.

    python -m tests.privacy.broken_mechanism            # every break, a few minutes

Each break is one line of the code replaced in a copy of the project, so that it does what a library does or what a
tired person might write.  The tests named beside it are run there; they must fail, and pass on the copy as it is.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
TRAPS = "tests/privacy/test_library_traps.py::"
DRAWS = "tests/privacy/test_example_rng.py::"
LAYERS = "tests/privacy/test_layers_by_example.py::"


class Break(NamedTuple):
    """One line of ``file`` gone wrong, and the test that must see it."""

    what: str
    file: str
    right: str
    wrong: str
    test: str


BREAKS = (
    Break("clipping sees scaled gradients", "runner/privacy/mechanism/private_rule.py",
          "norms.clamp(min=self._max_grad_norm * self._static_scale)", "norms.clamp(min=self._max_grad_norm)",
          TRAPS + "test_a_loss_scale_is_out_before_clipping"),
    Break("a step with an overflow adds no noise", "runner/privacy/mechanism/private_rule.py",
          "if self._noise_multiplier > 0.0:", "if self._noise_multiplier > 0.0 and not bool(self._zeroed_now):",
          TRAPS + "test_an_overflow_is_no_reason_to_skip_a_step"),
    Break("q = 1 / batches of an epoch", "runner/planning/privacy_plan.py",
          "rate = split.logical / examples", "rate = 1 / -(-examples // split.logical)",
          TRAPS + "test_the_rate_is_batch_over_examples"),
    Break("q without the processes", "runner/planning/privacy_plan.py",
          "rate = split.logical / examples",
          "rate = config.data.batch_size * config.trainer.accumulation_steps / examples",
          TRAPS + "test_the_batch_is_micro_batch_times_accumulation_times_processes"),
    Break("q without accumulation", "runner/planning/privacy_plan.py",
          "rate = split.logical / examples",
          "rate = split.logical / config.trainer.accumulation_steps / examples",
          TRAPS + "test_the_batch_is_micro_batch_times_accumulation_times_processes"),
    Break("steps rounded down from a float", "runner/planning/run_length.py",
          "math.floor(trainer.epochs * steps_per_epoch + 0.5)",
          "int(trainer.epochs * int(1 / (1 / steps_per_epoch)))",
          TRAPS + "test_steps_are_counted_and_not_rounded_down_from_a_float"),
    Break("shuffled batches of a fixed size", "runner/privacy/mechanism/poisson_sampler.py",
          "return torch.from_numpy(np.flatnonzero(present))",
          "return torch.from_numpy(np.sort(np.argsort(coarse, kind='stable')[: round(self.rate * self.n)]))",
          TRAPS + "test_batches_without_poisson_sampling_do_not_get_its_epsilon"),
    Break("a batch left early leaks into the next", "runner/privacy/mechanism/private_rule.py",
          "        self._flat.zero_()\n        self._zeroed_now.zero_()\n", "        self._zeroed_now.zero_()\n",
          TRAPS + "test_a_batch_left_early_leaks_nothing_into_the_next"),
    Break("only the last micro-batch counts", "runner/privacy/mechanism/private_rule.py",
          "view += gradient.weighted_sum(factors, dropped)", "view.copy_(gradient.weighted_sum(factors, dropped))",
          TRAPS + "test_accumulation_keeps_every_micro_batch"),
    Break("empty batches are left out", "runner/training/step.py",
          "        rows = self._lookahead.rows(step)\n",
          "        rows = self._lookahead.rows(step)\n        if not len(rows):\n            return stop\n",
          TRAPS + "test_an_empty_batch_is_a_step_like_any_other"),
    Break("one NaN makes all weights NaN", "runner/privacy/mechanism/private_rule.py",
          "dropped = ~finite if images.device.type != \"cpu\" or not bool(finite.all()) else None", "dropped = None",
          TRAPS + "test_one_broken_example_breaks_itself_alone"),
    Break("a resume with another mechanism", "runner/training/checkpointing/resume.py",
          "if checkpoint.identity != plan.identity:", "if False:",
          TRAPS + "test_a_checkpoint_goes_on_with_its_own_mechanism_only"),
    Break("the same noise in each step", "runner/privacy/mechanism/noise.py",
          "_secure_normal(Keystream(key, step), numel, dtype)",
          "_secure_normal(Keystream(key, 0), numel, dtype)",
          TRAPS + "test_a_resumed_run_replays_no_noise"),
    Break("a resumed run draws other noise from its key", "runner/training/checkpointing/resume.py",
          "if checkpoint is None or (saved := checkpoint.state.get(\"noise_form\")) == form:",
          "saved: dict[str, str] | None = None\n    if True:",
          "tests/training/test_one_noise.py::test_the_other_generator_is_refused_by_its_key_and_touches_nothing"),
    Break("a resumed run draws another key", "runner/training/checkpointing/resume.py",
          "return SecretKey(checkpoint.state[\"secret_key\"])", "return None",
          "tests/training/test_resume.py::test_the_key_of_a_private_run_is_kept"),
    Break("BatchNorm under DP", "runner/planning/build.py",
          "{\"auto\": \"group\" if private else \"batch\"}", "{\"auto\": \"batch\"}",
          TRAPS + "test_residual_nets_train_where_opacus_cannot"),
    Break("in-place sums under vmap and hooks", "runner/privacy/example_gradients/out_of_place.py",
          "        if func in _INPLACE_POSITION:", "        if False and func in _INPLACE_POSITION:",
          "tests/privacy/test_out_of_place.py::test_equals_one_backward_per_example"),
    Break("the central limit figure", "runner/privacy/accounting/accountants.py",
          "ACCOUNTANTS = (\"pld\", \"prv\", \"rdp\")", "ACCOUNTANTS = (\"pld\", \"prv\", \"rdp\", \"gdp\")",
          TRAPS + "test_the_central_limit_figure_is_too_low_and_not_on_offer"),
    Break("an optimistic distribution of losses", "runner/privacy/accounting/dp_accounting_calls.py",
          "pessimistic_estimate=True", "pessimistic_estimate=False",
          "tests/privacy/test_accounting.py::test_without_sampling_it_is_the_gaussian_mechanism"),
    Break("more noise than needed", "runner/config/schema.py",
          "accountant: Literal[\"pld\", \"prv\", \"rdp\"] = \"pld\"",
          "accountant: Literal[\"pld\", \"prv\", \"rdp\"] = \"rdp\"",
          "tests/privacy/test_accounting.py::test_the_default_asks_for_the_least_noise"),
    Break("no noise, and epsilon is 0", "runner/privacy/accounting/accountants.py",
          "    if noise_multiplier == 0.0:\n        return math.inf\n",
          "    if noise_multiplier == 0.0:\n        return 0.0\n",
          TRAPS + "test_without_noise_epsilon_is_infinite_and_no_failure"),
    Break("noise, budget and length all given", "runner/config/rules/privacy_rules.py",
          "    if both and given:", "    if False:",
          TRAPS + "test_noise_budget_and_length_are_never_all_given"),
    Break("delta of one over n", "runner/planning/privacy_plan.py",
          "    if delta >= 1 / examples:", "    if delta >= 1:",
          TRAPS + "test_a_delta_that_allows_publishing_a_record_is_refused"),
    Break("trainer=dp privacy=none", "runner/training/trainers.py",
          "        if not config.privacy.enabled:", "        if False:",
          TRAPS + "test_what_looks_private_and_is_not_is_refused"),
    Break("privacy.epsilon=3 without DP", "runner/config/rules/privacy_rules.py",
          "    _privacy_keys_need_privacy,\n    _copies", "    _copies",
          TRAPS + "test_what_looks_private_and_is_not_is_refused"),
    Break("a sweep costs what its dearest cell costs", "runner/privacy/accounting/composition.py",
          "steps[run.sample_rate, run.noise_multiplier] += run.steps",
          "steps[run.sample_rate, run.noise_multiplier] = run.steps",
          "tests/privacy/test_composition.py::test_nine_cells_at_epsilon_3"),
    Break("the best of random trials costs one run", "runner/privacy/accounting/dp_accounting_calls.py",
          "dp_event.RepeatAndSelectDpEvent(dp_event.SelfComposedDpEvent(step, steps), mean, shape)",
          "dp_event.SelfComposedDpEvent(step, steps)",
          "tests/privacy/test_random_stopping.py::test_it_bounds_the_truth_where_the_best_is_the_largest_output"),
    Break("16 bits are taken for float32", "runner/privacy/independence/same_operations.py",
          "if one is None or other is None or not one.equals(other):", "if one is None and other is None:",
          "tests/privacy/test_mixing_check.py::test_what_is_done_in_sixteen_bits_alone_is_refused"),
    Break("draws by the place in the batch", "runner/privacy/mechanism/example_rng.py",
          "for row in rows.tolist()", "for row in range(len(rows))",
          DRAWS + "test_an_example_keeps_its_draws_whoever_else_is_there"),
    Break("draws from the public seed", "runner/training/gradients/private_parts.py",
          "key, model, copies=", "SecretKey.from_unsafe_seed(semantic.seed), model, copies=",
          DRAWS + "test_a_run_draws_from_its_secret_key_and_not_from_its_seed"),
    Break("the same crops and masks in each step", "runner/privacy/mechanism/example_rng.py",
          'struct.pack("<QQQ", step, row, copy)', 'struct.pack("<QQQ", 0, row, copy)',
          DRAWS + "test_draws_of_another_key_step_row_or_copy_are_others"),
    Break("copies of an example are all alike", "runner/privacy/mechanism/example_rng.py",
          'struct.pack("<QQQ", step, row, copy)', 'struct.pack("<QQQ", step, row, 0)',
          DRAWS + "test_draws_of_another_key_step_row_or_copy_are_others"),
    Break("a process draws for the first share", "runner/privacy/mechanism/example_rng.py",
          "mine = rows[rank::size]", "mine = rows[0::size]",
          DRAWS + "test_processes_deal_out_the_same_draws"),
    Break("dropout draws for the whole batch", "runner/training/gradients/private_parts.py",
          "    draw_by_example(model)\n", "",
          "tests/audit/test_sensitivity.py::test_layers_that_draw_leave_the_others_alone"),
    Break("one mask for all examples", "runner/privacy/mechanism/random_layers.py",
          "numbers = _mix(streams.unsqueeze(1)", "numbers = _mix(streams[:1].unsqueeze(1).expand(len(like), 1)",
          LAYERS + "test_numbers_follow_from_the_key_alone"),
    Break("each dropout layer has the mask of the first", "runner/privacy/mechanism/random_layers.py",
          "        self._calls += 1\n", "",
          LAYERS + "test_each_call_draws_anew_and_a_repeated_pass_draws_the_same"),
    Break("a norm of millions of numbers misses 1e-4", "runner/privacy/example_gradients/parameter.py",
          "_ADDED_UP = 1 << 16", "_ADDED_UP = 1 << 32",
          "tests/audit/test_sensitivity.py::test_a_norm_of_millions_of_numbers_is_right"),
    Break("the gradients of copies are added up", "runner/privacy/example_gradients/functional.py",
          "found = loss(logits, label.expand(copies)).mean()", "found = loss(logits, label.expand(copies)).sum()",
          "tests/privacy/test_multiplicity.py::test_the_mean_gradient_of_the_copies_is_clipped"),
)  # fmt: skip


def run_test(copy, test):
    """Whether ``test`` passes in ``copy``, and what pytest printed."""
    environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", test],
        cwd=copy, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if ran.returncode not in (0, 1):
        raise RuntimeError(f"{test} did not run:\n{ran.stdout}{ran.stderr}")
    return ran.returncode == 0, ran.stdout


def main():
    """Print a line a break and end with 0 only when each test passed before and failed after."""
    parser = argparse.ArgumentParser(prog="python -m tests.privacy.broken_mechanism", description=__doc__)
    parser.add_argument("--only", help="breaks whose description holds this text")
    arguments = parser.parse_args()
    seen, breaks = 0, [each for each in BREAKS if (arguments.only or "") in each.what]
    with tempfile.TemporaryDirectory(prefix="recipe-runner-broken-") as folder:
        copy = Path(folder) / "project"
        ignored = shutil.ignore_patterns(".git", ".venv", "outputs", "__pycache__", ".*_cache", ".hypothesis")
        shutil.copytree(ROOT, copy, ignore=ignored)
        for test in sorted({each.test for each in breaks}):
            passes, printed = run_test(copy, test)
            if not passes:
                raise RuntimeError(f"{test} fails without a break:\n{printed}")
        for each in breaks:
            file = copy / each.file
            right = file.read_text()
            if right.count(each.right) != 1:
                raise RuntimeError(f"{each.file} holds {right.count(each.right)} times: {each.right}")
            file.write_text(right.replace(each.right, each.wrong))
            passes, _ = run_test(copy, each.test)
            file.write_text(right)
            seen += not passes
            print(f"{'NOT SEEN' if passes else 'seen':9} {each.what:45} {each.test.rpartition('::')[2]}", flush=True)
    print(f"{seen}/{len(breaks)} breaks seen")
    return 0 if seen == len(breaks) else 1


if __name__ == "__main__":
    sys.exit(main())
