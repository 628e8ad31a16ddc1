"""What cells need and is slow to import: the fork server does it once for all of them."""

MODULES = (
    "torch._dynamo",
    "torch.func",
    "dp_accounting.pld.privacy_loss_distribution",
    "safetensors.torch",
    "rich.live",
    "wandb",
    "runner.job",
    "runner.data.open",
    "runner.plan.build",
    "runner.records.environment",
    "runner.records.recorder",
    "runner.records.wandb_sink",
    "runner.sweep_spending",
    "runner.sweeping.cell",
    "runner.sweeping.earlier",
    "runner.training.launch",
    "runner.training.loop",
    "runner.training.on_ledger",
    "runner.training.parts",
    "runner.training.private_parts",
    "runner.training.resume",
    "runner.training.torch_settings",
    "runner.training.trainers",
)

SEARCHED = ("runner.search.sampling", "runner.search.storage", "runner.search.study")
"""What trials of a search need besides."""
