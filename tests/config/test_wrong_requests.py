"""Whatever is wrong with a request: exit code 2, one line that names the key and the cure, and nothing left behind."""

import contextlib
from pathlib import Path

import pytest

from runner.commands.train import main

# What is typed, the key that the line must start with, and words that must stand in it.
WRONG = [
    # keys
    ("data.batchsize=32", "data.batchsize", "did you mean data.batch_size?"),
    ("batch_size=32", "batch_size", "did you mean data.batch_size?"),
    ("lr=0.1", "lr", "did you mean optimizer.lr?"),
    ("trainer.lr=0.1", "trainer.lr", "did you mean optimizer.lr?"),
    ("trainr.epochs=3", "trainr.epochs", "did you mean trainer.epochs?"),
    ("privacy.eps=3", "privacy.eps", "did you mean privacy.epsilon?"),
    ("data.augment.flp=true", "data.augment.flp", "did you mean data.augment.flip?"),
    ("data.crop_padding=4", "data.crop_padding", "did you mean data.augment.crop_padding?"),
    ("optimizer.momentun=0.9", "optimizer.momentun", "did you mean optimizer.momentum?"),
    ("trainer.epochs.foo=3", "trainer.epochs.foo", "did you mean trainer.epochs?"),
    ("data.options={}", "data.options", "a key of data: _target_"),
    ("data.augment={crop_padding: 2, foo: 1}", "data.augment.foo", "a key of data.augment"),
    ("colour=red", "colour", "one of the groups data,"),
    ("hydra.run.dirr=x", "hydra.run.dirr", "did you mean hydra.run.dir?"),
    ("hydra=3", "hydra", "hydra.run.dir=FOLDER"),
    # the name of a part that another option is
    ("optimizer.name=adamw", "optimizer.name", "optimizer=adamw"),
    ("trainer.name=dp", "trainer.name", "trainer=dp"),
    ("scheduler.name=triangle", "scheduler.name", "scheduler=NAME, one of constant"),
    ("data=synthetic data.name=cifar10", "data.name", "data=cifar10"),
    ("model.name=convnext_tiny", "model.name", "model=timm model.name=convnext_tiny"),
    ("tracker=none tracker.name=wandb", "tracker.name", "tracker=wandb"),
    ("--multirun optimizer.name=sgd,adamw", "optimizer.name", "optimizer=adamw"),
    # values that are listed twice, and none
    ("--multirun optimizer.lr=0.01,1e-2", "optimizer.lr", "values that differ"),
    ("--multirun seed=1,2,1", "seed", "values that differ"),
    ("--multirun model=mlp,linear,mlp", "model", "values that differ"),
    ("resume=", "resume", "the folder of a run"),
    # what is learned
    ("task=clasify", "task", "did you mean classify?"),
    ("task.name=regression", "task.name", "task=NAME, one of classify"),
    ("task.loss=focall", "task.loss", "did you mean focal?"),
    ("task.loss=os.system", "task.loss", "RECIPE_RUNNER_TARGETS"),
    ("task.focal_gamma=-1 task.loss=focal", "task.focal_gamma", "a number >= 0"),
    ("task.focal_gamma=3", "task.focal_gamma", "task.loss=focal, which alone has it"),
    ("task.loss=focal trainer.label_smoothing=0.1", "trainer.label_smoothing", "only task.loss=cross_entropy"),
    ("task.class_weights=balancd", "task.class_weights", "did you mean balanced?"),
    ("task.class_weights=[1,-2]", "task.class_weights", "a number > 0"),
    ("task.class_weights=[]", "task.class_weights", "balanced, or a list of numbers > 0"),
    ("task.class_weights=3", "task.class_weights", "balanced, or a list of numbers > 0"),
    ("task.class_weights=[1,2]", "task.class_weights", "10 numbers, one for each class"),
    (
        "trainer=dp task.class_weights=balanced",
        "task.class_weights",
        "a list of numbers that do not come from the data",
    ),
    ("data.sampler=balance", "data.sampler", "did you mean balanced?"),
    ("trainer=dp data.sampler=balanced", "data.sampler", "follow the private labels"),
    ("data.sampler=balanced task.class_weights=balanced", "task.class_weights", "one of the two"),
    ("task.wieghts=balanced", "task.wieghts", "did you mean"),
    # groups and options
    ("optimzer=adam", "optimzer", "did you mean optimizer?"),
    ("model=resnt18", "model", "did you mean resnet18?"),
    ("precision=fp17", "precision", "one of auto, bf16, fp16, fp32, fp64, mixed"),
    ("trainer=dpp", "trainer", "did you mean dp?"),
    ("experiment=debugg", "experiment", "did you mean debug?"),
    ("trainer.epochs=2 trainer.steps=9", "trainer.epochs", "one of the two: trainer.steps alone would count"),
    ("data.fold=0 data.test_fraction=0.3", "data.test_fraction", "one of the two: data.fold alone would count"),
    ("data.root=.", "data.root", "data=image_folder"),
    ("--multirun precision.init_scale=8,16", "precision.init_scale", "beside precision=fp16"),
    ("--multirun optimizer=sgd,adamw optimizer.momentum=0.9", "optimizer.momentum", "in cell 1: optimizer=adamw"),
    ("sweep=no_such_sweep", "sweep", "null"),
    ("data=null", "data", "one of canaries"),
    ("trainer=[dp,standard]", "trainer", "one of accelerate"),
    ("data={a: 1}", "data", "one of canaries"),
    ("model@data=mlp", "model", "without @"),
    ("hydra/sweeper=optunna", "hydra/sweeper", "did you mean optuna?"),
    ("hydra/swepper=basic", "hydra/swepper", "did you mean hydra/sweeper?"),
    ("--multirun hydra/launcher=basic", "hydra/launcher", "one of fork_server, joblib, submitit_local, submitit_slurm"),
    ("--multirun hydra.launcher.n_jobs=0", "hydra.launcher.n_jobs", "a whole number >= 1"),
    ("seeds=0", "seeds", "a number >= 1"),
    ("seeds=many", "seeds", "a whole number"),
    ("--multirun seeds=2 seed=0,1", "seeds", "one of the two"),
    ("--multirun seeds=2 hydra/sweeper=optuna", "seeds", "1: repeat its best recipe"),
    ("retry_failed=true", "retry_failed", "false: the same command starts it again"),
    # +, ~ and bare words
    ("+foo=3", "foo", "one of the groups"),
    ("+trainer.foo=3", "trainer.foo", "a key of trainer"),
    ("+data.batchsize=3", "data.batchsize", "did you mean data.batch_size?"),
    ("+data.batch_size=3", "data.batch_size", "without +"),
    ("++model=mlp", "model", "model=mlp without +"),
    ("++sed=3", "sed", "did you mean seed?"),
    ("model=glob(rsnet*)", "model", "a pattern that fits one of"),
    ("seed=glob(*)", "seed", "glob(...) names options of a group"),
    ("+trainer=dp", "trainer", "trainer=dp without +"),
    ("~data", "data", "nothing can be taken out"),
    ("~data.limit", "data.limit", "nothing can be taken out"),
    ("trainer", "trainer", "key=value, or a command: train, plan, infer"),
    ("--multirun plan seed=0,1", "plan", "-m runner plan --multirun seed=0,1"),
    ("configs/mine.yaml", "configs/mine.yaml", "--config-dir FOLDER experiment=NAME"),
    ("predict", "predict", "did you mean infer?"),
    ("=3", "=3", "key=value"),
    ("data.mean=[0.1", "data.mean", "a value that Hydra can read"),
    # types
    ("data.batch_size=abc", "data.batch_size", "a whole number"),
    ("data.batch_size=3.5", "data.batch_size", "a whole number"),
    ("data.batch_size=", "data.batch_size", "got nothing"),
    ("data.batch_size=null", "data.batch_size", "a whole number"),
    ("data.batch_size=true", "data.batch_size", "a whole number"),
    ("trainer.epochs=ten", "trainer.epochs", "a number"),
    ("trainer.steps=many", "trainer.steps", "a whole number or null"),
    ("deterministic=maybe", "deterministic", "true or false"),
    ("data.mean=0.3", "data.mean", "a list of numbers or null"),
    ("data.mean=[dark]", "data.mean", "a list of numbers or null"),
    ("data.augment=3", "data.augment", "a mapping"),
    ("hydra.mode=FAST", "hydra.mode", "one of RUN, MULTIRUN"),
    ("optimizer.momentum=heavy", "optimizer.momentum", "a number"),
    ("optimizer.nesterov=1", "optimizer.nesterov", "true or false"),
    ("model=mlp model.hidden=64", "model.hidden", "a list"),
    ("model=mlp model.hidden=[a]", "model.hidden", "a whole number"),
    ("optimizer.lr=nan", "optimizer.lr", "a finite number"),
    ("optimizer.lr=inf", "optimizer.lr", "a finite number"),
    ("optimizer=adam optimizer.betas=[0.9,nan]", "optimizer.betas", "a finite number"),
    # missing values and interpolations
    ("data.root=???", "data.root", "got no value"),
    ("data.root=${nope}", "data.root", "Interpolation key 'nope' not found"),
    ("data.batch_size=${data.name}", "data.batch_size", "a whole number, or auto"),
    ("seed=${seed}", "seed", "Recursive"),
    ("hydra.run.dir=${nope}", "hydra.run.dir", "the name of a folder"),
    ("hydra.run.dir=", "hydra.run.dir", "the name of a folder"),
    (f"hydra.run.dir={'a' * 300}", "hydra.run.dir", "the name of a folder (File name too long)"),
    ("data.root=日本", "data.root", "data.root='日本'"),
    ("hardware.memory_limit=4", "hardware.memory_limit", "at least 1MiB"),
    ("trainer=dp model.gradient_checkpointing=true", "model.gradient_checkpointing", "false with trainer=dp"),
    ("trainer=dp hardware.compile=true", "hardware.compile", "false with trainer=dp"),
    ("trainer=dp hardware.cuda_graphs=true", "hardware.cuda_graphs", "false with trainer=dp"),
    ("hardware.compile=true model.gradient_checkpointing=true", "hardware.compile", "computed again"),
    ("hardware.cuda_graphs=true model.gradient_checkpointing=true", "hardware.cuda_graphs", "a recording may not read"),
    ("hardware=mps hardware.compile=true", "hardware.compile", "hardware.device=cuda"),
    ("hardware=cpu hardware.cuda_graphs=true", "hardware.cuda_graphs", "hardware.device=cuda"),
    ("hardware.compile=maybe", "hardware.compile", "true or false"),
    # how an update is split
    ("data.batch_size=auot", "data.batch_size", "did you mean auto?"),
    ("data.batch_size=0", "data.batch_size", ">= 1, or auto"),
    ("data.batch_size=auto", "trainer.effective_batch_size", "a number with data.batch_size=auto"),
    (
        "data.batch_size=auto trainer.effective_batch_size=64 trainer.accumulation_steps=2",
        "trainer.accumulation_steps",
        "null",
    ),
    ("data.batch_size=auto trainer.effective_batch_size=64 deterministic=true", "data.batch_size", "a number"),
    ("data.batch_size=48 trainer.effective_batch_size=100", "trainer.effective_batch_size", "data.batch_size=25"),
    (
        "data.batch_size=10 trainer.accumulation_steps=5 trainer.effective_batch_size=100",
        "trainer.effective_batch_size",
        "= 50",
    ),
    ("hardware.memory_limit=4GX", "hardware.memory_limit", "such as 4GiB"),
    ("optimizer.scale_lr=cubic", "optimizer.scale_lr", "one of none, linear, sqrt"),
    ("optimizer.scale_lr=linear", "optimizer.reference_batch_size", "the effective batch"),
    ("optimizer.reference_batch_size=64", "optimizer.scale_lr", "linear or sqrt"),
    # ranges
    ("data.batch_size=0", "data.batch_size", "a number >= 1"),
    ("data.eval_batch_size=-1", "data.eval_batch_size", "a number >= 1"),
    ("data.val_fraction=1", "data.val_fraction", "a number in [0, 1)"),
    ("data.val_fraction=0.5 data.test_fraction=0.5", "data.val_fraction", "less than 1 - data.test_fraction = 0.5"),
    ("data.folds=1", "data.folds", "a number >= 2"),
    ("data.fold=5", "data.fold", "a number from 0 to 4"),
    ("data.fold=-1", "data.fold", "a number >= 0"),
    ("data.channels=2", "data.channels", "1, 3 or null with data=digits"),
    ("data.on_bad_file=skp", "data.on_bad_file", "did you mean skip?"),
    ("data.std=[0]", "data.std", "a number in (0, 1]"),
    ("data.root=", "data.root", "a path, or null"),
    ("trainer=dp privacy.epsilon=1e-9", "privacy.epsilon", "a number in [0.001, 10000]"),
    ("trainer=dp privacy.noise_multiplier=1e-9", "privacy.noise_multiplier", "a number in [0.01, 10000]"),
    ("hardware.threads=100000", "hardware.threads", "a number in [1, 1024]"),
    ("trainer=accelerate hardware.processes=100000", "hardware.processes", "a number in [1, 1024]"),
    ("data.mean=[0.1,0.2]", "data.mean", "one value, or one per channel"),
    ("data.mean=[0.1,0.2,0.3]", "data.std", "as many values as data.mean"),
    ("data.std=null", "data.std", "mean and std go together"),
    ("data.augment.crop_area=[0.9,0.2]", "data.augment.crop_area", "[smallest,largest]"),
    ("data.augment.erasing_area=[0.3]", "data.augment.erasing_area", "[smallest,largest]"),
    ("data.augment.mixup=-1", "data.augment.mixup", "a number >= 0"),
    ("trainer=dp data.augment.mixup=0.2", "data.augment.mixup", "0: an image made of two examples"),
    ("trainer=dp data.augment.cutmix=1", "data.augment.cutmix", "0: an image made of two examples"),
    ("trainer=dp data.preview=true", "data.preview", "would show private images"),
    ("data.preview=maybe", "data.preview", "true or false"),
    ("data.manifest=labels.csv", "data.manifest", "data=manifest beside it"),
    ("folds=1", "folds", "a number >= 2"),
    ("folds=5 data.fold=0", "folds", "one of the two"),
    ("folds=5 data.test_fraction=0.3", "folds", "one of the two"),
    ("folds=3 hydra/sweeper=optuna", "folds", "in a run of its own"),
    ("folds=3 comparison.until=decided precision=fp32,bf16", "comparison.until", "share training data"),
    ("data.augment.erasing=2", "data.augment.erasing", "a number in [0, 1]"),
    ("data.augment.rotation=270", "data.augment.rotation", "a number in [0, 180]"),
    ("data.augment.rand_augment=9", "data.augment.rand_augment", "a number in [0, 5]"),
    (
        "data.augment.rand_augment=2 data.augment.rand_augment_magnitude=31",
        "data.augment.rand_augment_magnitude",
        "30]",
    ),
    (
        "data.augment.rand_augment=2 data.augment.trivial_augment=true",
        "data.augment.rand_augment",
        "0 beside trivial_augment",
    ),
    ("data.augment.randaugment=2", "data.augment.randaugment", "data.augment.rand_augment=2"),
    (
        "--multirun data.augment.erasing_area=[0.1,0.2],[0.2,0.3]",
        "data.augment.erasing_area",
        "beside data.augment.erasing=0.25",
    ),
    ("data.augment.color_jitter=2", "data.augment.color_jitter", "a number in [0, 1]"),
    ("data.augment.hue=0.6", "data.augment.hue", "a number in [0, 0.5]"),
    ("data.cache=disc", "data.cache", "did you mean disk?"),
    ("+profile=maybe", "profile", "true or false"),
    ("model.norm=layer", "model.norm", "one of auto, batch, group"),
    ("trainer.epochs=0", "trainer.epochs", "a number > 0"),
    ("trainer.steps=0", "trainer.steps", "a number >= 1"),
    ("trainer.accumulation_steps=0", "trainer.accumulation_steps", "a number >= 1"),
    ("trainer.clip_norm=0", "trainer.clip_norm", "a number > 0"),
    ("trainer.label_smoothing=1", "trainer.label_smoothing", "a number in [0, 1)"),
    ("trainer.monitor=accuracy", "trainer.monitor", "did you mean val_accuracy?"),
    ("precision.amp_dtype=float8", "precision.amp_dtype", "one of float32"),
    ("precision.growth_factor=1", "precision.growth_factor", "a number > 1"),
    ("precision.backoff_factor=1", "precision.backoff_factor", "a number in (0, 1)"),
    ("optimizer.lr=0", "optimizer.lr", "a number > 0"),
    ("optimizer.momentum=1", "optimizer.momentum", "a number in [0, 1)"),
    ("optimizer=adam optimizer.betas=[0.9]", "optimizer.betas", "two numbers"),
    ("optimizer.nesterov=true optimizer.momentum=0", "optimizer.nesterov", "optimizer.momentum > 0"),
    ("scheduler.warmup_epochs=-1", "scheduler.warmup_epochs", "a number >= 0"),
    ("scheduler.warmup_epochs=31", "scheduler.warmup_epochs", "at most trainer.epochs=30"),
    ("hardware.device=gpu", "hardware.device", "did you mean cpu?"),
    ("hardware.gpu=a100", "hardware.gpu", "hardware=a100"),
    ("hardware.gpu=a10", "hardware.gpu", "did you mean a100?"),
    ("data=image_folder data.root=no/such/folder", "data.root", "a folder that exists"),
    ("--multirun seed=0,1 model.weights=no_such_file", "model.weights", "a file that can be read"),
    ("seed=-1", "seed", "a number in [0, 4294967295]"),
    ("name=a/b", "name", "without slashes"),
    # across keys and groups
    ("trainer=dp privacy=none", "privacy", "privacy=dp, or trainer=standard"),
    ("privacy=dp", "privacy", "trainer=dp"),
    ("privacy.epsilon=3", "privacy.epsilon", "trainer=dp"),
    ("trainer=accelerate privacy.noise_multiplier=1", "privacy.noise_multiplier", "trainer=dp"),
    ("privacy.delta=1e-5", "privacy.delta", "trainer=dp"),
    ("privacy.max_grad_norm=2", "privacy.max_grad_norm", "trainer=dp"),
    ("trainer=dp privacy.epsilon=3 privacy.noise_multiplier=1", "privacy.noise_multiplier", "two of the three"),
    (
        "trainer=dp privacy.epsilon=3 privacy.noise_multiplier=1 trainer.epochs=null trainer.steps=9",
        "privacy.noise_multiplier",
        "trainer.epochs=null trains until epsilon is spent",
    ),
    ("trainer.epochs=null", "trainer.epochs", "a number, or trainer.steps"),
    ("trainer=dp privacy.selection=random_stop", "privacy.selection", "did you mean random_stopping?"),
    ("trainer=dp privacy.selection=random_stopping privacy.selection_trials=0.5", "privacy.selection_trials", ">= 1"),
    ("trainer=dp privacy.selection=random_stopping privacy.selection_shape=-1", "privacy.selection_shape", "[0, 100]"),
    (
        "trainer=dp privacy.selection=random_stopping tracker=wandb tracker.mode=online",
        "tracker.mode",
        "nothing may be published of the trials but the best",
    ),
    ("trainer=dp privacy.selection_trials=5", "privacy.selection_trials", "selection=random_stopping"),
    (
        "trainer=dp privacy.selection=random_stopping privacy.unsafe_noise_seed=1",
        "privacy.unsafe_noise_seed",
        "each trial needs noise of its own",
    ),
    ("trainer=dp trainer.epochs=null privacy.epsilon=3", "trainer.epochs", "both privacy.epsilon and"),
    ("trainer=dp privacy.epsilon=0", "privacy.epsilon", "a number in [0.001, 10000]"),
    ("trainer=dp privacy.delta=1", "privacy.delta", "a number in (0, 1)"),
    ("trainer=dp privacy.accountant=gdp", "privacy.accountant", "one of pld, prv, rdp"),
    ("trainer=dp trainer.clip_norm=1", "trainer.clip_norm", "privacy.max_grad_norm"),
    ("trainer=dp trainer.patience=3", "trainer.patience", "null with trainer=dp"),
    ("trainer=dp trainer.test_checkpoint=best", "trainer.test_checkpoint", "last with trainer=dp"),
    ("trainer=dp scheduler=plateau", "scheduler", "another schedule with trainer=dp"),
    ("trainer=dp model.norm=batch", "model.norm", "group or auto"),
    ("hardware.processes=2", "hardware.processes", "trainer=accelerate"),
    ("trainer=accelerate hardware=cpu hardware.processes=null", "hardware.processes", "a number"),
    ("hardware=multi_gpu", "hardware.processes", "trainer=accelerate"),
    ("tracker=none tracker.mode=online", "tracker.mode", "tracker=wandb"),
    # features that are kept
    ("features=off", "features", "a mapping of its keys: cache, dtype"),
    ("features.cache=disk", "features.cache", "one of auto, off"),
    ("features.dtype=float16", "features.dtype", "one of float32, bfloat16"),
    ("features.dtyp=bfloat16", "features.dtyp", "did you mean features.dtype?"),
    ("features.dtype=bfloat16 features.cache=off", "features.dtype", "float32"),
    ("features.dtype=bfloat16 data.augment.hue=0.1", "features.dtype", "data.augment.flip alone"),
    # the question of a sweep
    ("comparison=precision", "comparison", "a mapping of its keys: metric, margin"),
    ("comparison.metrik=test_loss", "comparison.metrik", "did you mean comparison.metric?"),
    ("comparison.metric=accuracy", "comparison.metric", "one of test_accuracy, val_accuracy"),
    ("comparison.metric=test_loss", "comparison.margin", "a number of nats that matters, for test_loss"),
    ("comparison.margin=0", "comparison.margin", "a number > 0"),
    ("comparison.confidence=95", "comparison.confidence", "a number in (0, 1)"),
    ("comparison.by=precision", "comparison.by", "a list of words"),
    ("comparison.decision=money", "comparison.decision", "another cost, or hardware.price_per_hour beside it"),
    ("comparison.by=[precison]", "comparison.by", "did you mean precision?"),
    ("comparison.by=[lr]", "comparison.by", "did you mean optimizer.lr?"),
    ("comparison.by=[optimizer.momentum,data.augment.flp]", "comparison.by", "did you mean data.augment.flip?"),
    (
        "data.augment.random_resized_crop=true data.augment.crop_padding=4",
        "data.augment.crop_padding",
        "0 beside random_resized_crop=true",
    ),
    # import paths
    ("model._target_=os.system", "model._target_", "RECIPE_RUNNER_TARGETS"),
    ("optimizer._target_=torch.hub.load", "optimizer._target_", "torch.optim"),
    ("trainer._target_=runner.training.trainers.NoTrainer", "trainer._target_", "the import path of a trainer class"),
    ("data._target_=null", "data._target_", "text"),
    ("+model.part={_target_: os.system}", "model.part._target_", "plain values"),
    # flags
    ("--multirunn", "--multirunn", "did you mean --multirun?"),
    ("--data.batch_size=3", "--data.batch_size", "data.batch_size=3"),
    ("--cfg jobb", "--cfg", "did you mean job?"),
    ("--cfg", "--cfg", "got nothing, expected --cfg job|hydra|all"),
    ("--cfg job --multirun", "--cfg", "one of them at a time"),
    ("--resolve", "--resolve", "--cfg job --resolve"),
    ("--config-dir no_such_folder", "--config-dir", "a folder that exists"),
    ("--config-path conf", "--config-path", "--config-dir"),
    ("--config-name no_such_root", "--config-name", "a file without .yaml in the folder of --config-dir"),
    ("--experimental-rerun outputs/1", "--experimental-rerun", "hydra.run.dir=FOLDER"),
    ("hydra.searchpath=[file:///no/such/folder]", "hydra.searchpath", "folders that exist"),
    ("hydra.run.dir=/dev/null/x", "hydra.run.dir", "a folder that can be written"),
    ("--cfg job data.batchsize=32", "data.batchsize", "did you mean data.batch_size?"),
    ("--help data.batchsize=32", "data.batchsize", "did you mean data.batch_size?"),
    # sweeps
    ("precision=fp32,bf16", "precision", "add --multirun"),
    ("data.batch_size=16,32", "data.batch_size", "add --multirun"),
    ("data.limit=range(1,3)", "data.limit", "add --multirun"),
    ("--multirun precision=fp32,fp17", "precision", "did you mean fp16?"),
    ("--multirun data.batch_size=16,x", "data.batch_size", "(in cell 1: data.batch_size=x)"),
    ("--multirun trainer=standard,dp privacy.epsilon=3", "privacy.epsilon", "(in cell 0: trainer=standard"),
    ("--multirun optimizer.lr=interval(0,1)", "optimizer.lr", "values to list"),
    ("--multirun data.batchsize=1,2", "data.batchsize", "did you mean data.batch_size?"),
    ("--multirun hydra.verbose=true,false", "hydra.verbose", "cannot be swept"),
    ("--multirun hydra.mode=RUN", "hydra.mode", "one of the two"),
    ("--multirun hydra/sweeper=optuna optimizer.lrr=interval(0,1)", "optimizer.lrr", "did you mean optimizer.lr?"),
    ("--multirun hydra.sweep.dir=/dev/null/x seed=0,1", "hydra.sweep.dir", "a folder that can be written"),
]

# What a user reads, in full: change it here when a sentence is improved.
KNOWN = {
    "data.batchsize=32": "data.batchsize: got 32, expected a key that exists; did you mean data.batch_size?",
    "data.batch_size=abc": "data.batch_size: got abc, expected a whole number, or auto",
    "pln": (
        "pln: got a bare word, expected key=value, or a command: train, plan, infer, export, runs, report, compare,"
        " audit, ledger, bench, keys; did you mean plan?"
    ),
    "precision=fp17": ("precision: got fp17, expected one of auto, bf16, fp16, fp32, fp64, mixed; did you mean fp16?"),
    "precision=fp32,bf16": (
        "precision: got fp32,bf16, expected one value; add --multirun to run each, or [a,b] for a list"
    ),
    "--multirunn": (
        "--multirunn: got an unknown flag, expected [--multirun] [--cfg job] [--config-dir FOLDER] [--help]"
        " [key=value ...]; did you mean --multirun?"
    ),
    "trainer=dp privacy=none": (
        "privacy: got none with trainer=dp, expected privacy=dp, or trainer=standard for a run that is not private"
    ),
    "privacy.epsilon=3": "privacy.epsilon: got 3.0 without privacy, expected trainer=dp, which makes the run private",
    "trainer=dp privacy.epsilon=3 privacy.noise_multiplier=1": (
        "privacy.noise_multiplier: got 1 beside privacy.epsilon=3 and trainer.epochs=30, expected two of the three,"
        " because each follows from the others; trainer.epochs=null trains until epsilon is spent"
    ),
    "--multirun data.batch_size=16,x": (
        "data.batch_size: got x, expected a whole number, or auto (in cell 1: data.batch_size=x)"
    ),
}


def arguments(typed):
    """Cut at blanks, but not inside braces."""
    parts, depth = [""], 0
    for letter in typed:
        depth += (letter in "{[") - (letter in "}]")
        if letter == " " and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


@pytest.fixture
def refused(tmp_path, capsys):
    """refused(typed) -> the one line, without ``error: ``."""

    def refused(typed):
        folder = tmp_path / "empty"
        folder.mkdir()
        with contextlib.chdir(folder):
            code = main(arguments(typed))
        out, err = capsys.readouterr()
        assert code == 2
        assert out == ""
        assert list(folder.iterdir()) == []
        assert err.count("\n") == 1
        assert err.startswith("error: ")
        return err.removeprefix("error: ").rstrip("\n")

    return refused


@pytest.mark.parametrize(("typed", "key", "words"), WRONG, ids=[typed for typed, _, _ in WRONG])
def test_a_wrong_request_is_one_line_with_key_and_cure(refused, typed, key, words):
    line = refused(typed)
    assert line.startswith(f"{key}: got ")
    assert ", expected " in line
    assert words in line


@pytest.mark.parametrize("typed", KNOWN)
def test_known_messages(refused, typed):
    assert refused(typed) == KNOWN[typed]


FROM_A_SHELL = [
    ["data.batchsize=32"],
    ["model=resnt18"],
    ["data.batch_size=abc"],
    ["trian"],
    ["--multirunn"],
    ["trainer=dp", "privacy=none"],
    ["--multirun", "precision=fp32,fp17"],
    ["precision=fp32,bf16"],
    ["data.root=${nope}"],
]


@pytest.mark.parametrize("typed", FROM_A_SHELL, ids=" ".join)
def test_from_a_shell(runner, tmp_path, typed):
    ended = runner(*typed)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == []


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


FILES = {
    "malformed": ("model/mine.yaml", "_target_: runner.models.dense.mlp\n  name: [", "model=mine", "valid YAML"),
    "unknown key": ("trainer/mine.yaml", "defaults: [standard]\nepoks: 3\n", "trainer=mine", "epoks"),
    "wrong type": ("trainer/mine.yaml", "defaults: [standard]\nepochs: long\n", "trainer=mine", "trainer.epochs: "),
    "unknown key at the root": ("experiment/mine.yaml", "# @package _global_\nsede: 3\n", "experiment=mine", "sede"),
    "unknown default": ("model/mine.yaml", "defaults: [nope]\nname: mine\n", "model=mine", "nope"),
    "no target": ("model/mine.yaml", "name: mine\n", "model=mine", "model._target_: got nothing"),
    "out of range": ("optimizer/mine.yaml", "_target_: torch.optim.SGD\nlr: -1\n", "optimizer=mine", "optimizer.lr: "),
    "kind of an option": (
        "experiment/mine.yaml",
        "# @package _global_\nmodel: {widths: wide}\n",
        "experiment=mine",
        "model.widths: got wide, expected a list",
    ),
    "not a mapping": ("model/mine.yaml", "- a\n- b\n", "model=mine", "model/mine"),
}


@pytest.mark.parametrize("kind", FILES)
def test_wrong_files_of_the_user(tmp_path, capsys, kind):
    name, text, typed, words = FILES[kind]
    write(tmp_path / "mine" / name, text)
    with contextlib.chdir(tmp_path):
        assert main(["--config-dir", "mine", typed]) == 2
    _, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert words in err
    assert not (tmp_path / "outputs").exists()


SWEEPS = {
    "malformed": ("a: [", "expected valid YAML"),
    "not a mapping": ("- a\n", "a mapping of keys"),
    "unknown key": ("colour: red\n", "colour"),
    "wrong cell": ("hydra: {mode: MULTIRUN, sweeper: {params: {data.batch_size: '16,x'}}}\n", "in cell 1"),
    "unknown swept key": ("hydra: {mode: MULTIRUN, sweeper: {params: {data.batchsize: '1,2'}}}\n", "data.batch_size?"),
}


def test_a_broken_sweep_concerns_nobody_who_does_not_ask_for_it(tmp_path, capsys):
    write(tmp_path / "sweeps" / "broken.yaml", "a: [")
    with contextlib.chdir(tmp_path):
        assert main(["--cfg", "job"]) == 0
        assert main(["--multirun", "sweep=precision", "optimizer.lr=x"]) == 2
        assert capsys.readouterr().err.startswith("error: optimizer.lr: ")
        assert main(["sweep=broken"]) == 2
    assert f"error: {tmp_path / 'sweeps' / 'broken.yaml'}:" in capsys.readouterr().err


@pytest.mark.parametrize("kind", SWEEPS)
def test_wrong_sweeps_of_the_caller(tmp_path, capsys, kind):
    text, words = SWEEPS[kind]
    write(tmp_path / "sweeps" / "mine.yaml", text)
    with contextlib.chdir(tmp_path):
        assert main(["sweep=mine"]) == 2
    _, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert words in err
    assert not (tmp_path / "outputs").exists()


def test_targets_can_be_extended_from_the_environment_only(tmp_path, capsys):
    with contextlib.chdir(tmp_path), pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECIPE_RUNNER_TARGETS", "mypackage.*, other")
        # Allowed as a target, and then refused for the next thing that is wrong.
        assert main(["model._target_=mypackage.nets.build", "data.batch_size=0"]) == 2
        assert capsys.readouterr().err.startswith("error: data.batch_size")
        assert main(["model._target_=mypackages.build"]) == 2
        assert capsys.readouterr().err.startswith("error: model._target_")
