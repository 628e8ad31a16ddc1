"""A private run does not begin from weights that saw its images without privacy, however they are named."""

import pytest

from runner.errors import RequestError

SHORT = ("model=linear", "data.limit=40", "trainer.steps=1", "data.batch_size=20")
DP = ("trainer=dp", "privacy.epsilon=3", "privacy.accountant=rdp")


def test_weights_of_the_same_images_without_privacy_are_refused(train, tmp_path):
    run = train(*SHORT)
    for named in (run, run / "checkpoints" / "best" / "model.safetensors"):
        # another limit, seed and split of the same images
        with pytest.raises(RequestError) as refused:
            train(*SHORT, *DP, "data.limit=60", "seed=1", f"model.weights={named}")
        assert str(refused.value) == (
            f"model.weights: got {named} (trained on these images without privacy), expected weights that never saw the"
            " private images, or those of a private run"
        )
    # the same file outside of the run's folder is anybody's; other images, and weights with an epsilon, are no secret
    copied = tmp_path / "copied.safetensors"
    copied.write_bytes((run / "checkpoints" / "best" / "model.safetensors").read_bytes())
    private = train(*SHORT, *DP, f"model.weights={copied}")
    train(*SHORT, *DP, "seed=1", f"model.weights={private}")
    other = train(*SHORT, "data=synthetic", "data.image_size=8", "data.channels=1")
    train(*SHORT, *DP, "seed=2", f"model.weights={other}")
