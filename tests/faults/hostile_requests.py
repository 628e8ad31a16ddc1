"""Requests that nobody would type on purpose, drawn by hypothesis: keys, values, flags and YAML files."""

from hypothesis import strategies as st

TAIL = ("trainer.steps=1", "data.limit=40", "tracker=none", "hardware.device=cpu", "hardware.processes=1",
        "hydra.run.dir=out")  # fmt: skip
"""Whatever is drawn before, what comes last keeps a request that happens to be right small, and in one folder."""

GROUPS = {
    "data": ("digits", "synthetic", "canaries", "image_folder", "mnist2"),
    "model": ("linear", "mlp", "small_cnn", "linear_hog", "lenear"),
    "optimizer": ("sgd", "adam", "adamw", "rmsprop", "lbfgs"),
    "scheduler": ("constant", "cosine", "linear", "step", "exponential", "plateau"),
    "precision": ("fp32", "fp64", "bf16", "fp16", "auto", "fp8"),
    "trainer": ("standard", "mixed_precision", "accelerate", "dp"),
    "privacy": ("none", "dp"),
    "tracker": ("none", "wandbb"),
    "experiment": ("debug", "dp_digits", "nope"),
}
KEYS = (
    "data.batch_size", "data.eval_batch_size", "data.image_size", "data.channels", "data.val_fraction",
    "data.test_fraction", "data.split_seed", "data.folds", "data.fold", "data.on_bad_file", "data.mean", "data.std",
    "data.root", "data.name", "data._target_", "data.augment", "data.augment.crop_padding", "data.augment.flip",
    "data.augment.crop_area", "data.augment.color_jitter", "data.augment.random_resized_crop", "data.num_train",
    "data.cache_dir", "model.norm", "model.weights", "model.hidden", "model._target_", "model.name", "model.bias",
    "trainer.epochs", "trainer.accumulation_steps", "trainer.clip_norm", "trainer.ema_decay", "trainer.eval_every",
    "trainer.label_smoothing", "trainer.save_every", "trainer.log_every", "trainer.patience", "trainer.min_delta",
    "trainer.monitor", "trainer.test_checkpoint", "trainer._target_", "precision.amp_dtype", "precision.init_scale",
    "precision.growth_interval", "precision.static_scale", "precision.tf32", "privacy.epsilon", "privacy.delta",
    "privacy.noise_multiplier", "privacy.max_grad_norm", "privacy.accountant", "privacy.grad_sample",
    "privacy.augmentation_multiplicity", "privacy.unsafe_noise_seed", "privacy.validation", "privacy.enabled",
    "optimizer.lr", "optimizer.momentum", "optimizer.weight_decay", "optimizer.betas", "optimizer._target_",
    "scheduler.warmup_epochs", "scheduler.warmup_start", "scheduler._target_", "scheduler.gamma", "hardware.threads",
    "hardware.channels_last", "tracker.mode", "tracker.tags", "tracker._target_", "seed", "deterministic", "name",
    "resume", "sweep", "hydra.mode", "hydra.job.name", "nonsense", "data", "model.part.deep", "", ".", "a b", "data..x",
)  # fmt: skip
WORDS = (
    "null", "true", "false", "yes", "''", '""', "nan", "inf", "-inf", "-0.0", "0", "1", "-1", "2", "3.5", "1e-400",
    "1e400", "1e308", "1e-308", "9223372036854775808", "-9223372036854775809", "0x10", "1_0", "01", "[]", "[1]",
    "[0.1,0.2,0.3]", "[[1]]", "[null]", "[a", "{}", "{a: 1}", "{a: {b: [1]}}", "{", "???", "${seed}", "${nope}", "${",
    "${oc.env:HOME}", "${oc.decode:1}", "$", "\\", "'", '"', "a=b", "a,b", "1,2", "range(1,3)", "choice(1,2)",
    "glob(*)", "interval(0,1)", "int(3.0)",
    "@", "#", "%", " ", "\t", "\n", "\0", "\x1b[31m", "é", "ε", "\U0001f600", "\udcff",
    "../..", "/", "~", "-", "--", "os.system", "runner.commands.train.main", "torch.load", "builtins.eval",
    "x" * 5000, "[" * 200,
    "sgd", "batch", "float16", "runner.training.trainers.DPTrainer", "torch.optim.SGD",
)  # fmt: skip
FLAGS = ("--help", "--version", "--cfg", "job", "--multirun", "-m", "--resolve", "--info", "--nope", "-x", "--", "-",
         "--config-dir", "--config-name", "--run", "-c=all", "--package", "--hydra-help")  # fmt: skip

words = st.one_of(
    st.sampled_from(WORDS),
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(repr),
    st.text(max_size=12),
    st.text(alphabet="[]{},:='\"\\$()~+- \n0aé", max_size=12),
)
pairs = st.tuples(st.sampled_from(("", "", "", "", "+", "++", "~")), st.sampled_from(KEYS), words).map(
    lambda drawn: f"{drawn[0]}{drawn[1]}={drawn[2]}"
)
choices = st.sampled_from([f"{group}={option}" for group, options in GROUPS.items() for option in options])
single = st.one_of(
    pairs, pairs, pairs, pairs, choices, choices, st.text(max_size=20), st.sampled_from(KEYS).map("~{}".format)
)
command_lines = st.lists(single, min_size=1, max_size=4)
flagged = st.tuples(st.lists(st.sampled_from(FLAGS), min_size=1, max_size=2), st.lists(pairs, max_size=1)).map(
    lambda drawn: [*drawn[0], *drawn[1]]
)

_LINES = (
    "_target_: runner.models.dense.mlp", "name: fuzzed", "hidden: [8]", "bias: true", "weights: null", "norm: auto",
    "_target_: os.system", "defaults: [mlp, _self_]", "defaults: [nope]", "defaults: [fuzzed]", "defaults: 3",
    "# @package _global_", "# @package nope.deep", "hidden: [8", "hidden: {a: 1}", "hidden: ${data.batch_size}",
    "hidden: [99999999999999999999]", "  indented: 1", "\ttab: 1", "key: &a [*a]", "a: &a [1]\nb: [*a, *a]", "- 1",
    "---",
    "name: !!python/object/apply:os.system ['true']", "? complex : key", "name: é", "1: 2", "null: 3", "true: yes",
    "name: 2020-01-01", "'quote: 1", "<<: {hidden: [4]}", "name:", "_target_:", ": :", "%YAML 9.9", "hidden: [-1]",
)  # fmt: skip
yaml_files = st.one_of(
    st.lists(st.sampled_from(_LINES), max_size=5).map(lambda lines: "\n".join(lines).encode()),
    st.binary(max_size=40),
    st.lists(st.sampled_from(_LINES), max_size=4).map(
        lambda lines: "\n".join(["_target_: runner.models.dense.mlp", "name: fuzzed", *lines]).encode()
    ),
)
