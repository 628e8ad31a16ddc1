"""The keys of ``data.augment``: random changes to training images."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class AugmentConfig:
    """Random changes to training images: drawn per example, applied per batch on the training device, in this order."""

    random_resized_crop: bool = False
    """Cut a random area and aspect ratio and resize it to ``data.image_size`` (Szegedy et al. 2015, section 6)."""
    crop_area: list[float] = field(default_factory=lambda: [0.25, 1.0])
    """Smallest and largest share of the image's area that ``random_resized_crop`` keeps."""
    crop_padding: int = 0
    """Pixels of zero padding from which a window of the original size is cut; 0 switches the crop off."""
    flip: bool = False
    """Mirror left and right with probability one half."""
    rotation: float = 0.0
    """Largest turn in degrees, either way, about the middle; what comes from outside is black; 0 switches it off."""
    rand_augment: int = 0
    """Operations of RandAugment (Cubuk et al. 2020), one after another; theirs are 2; 0 switches it off."""
    rand_augment_magnitude: int = 9
    """Strength of all operations of ``rand_augment``, from 0 to 30."""
    trivial_augment: bool = False
    """One operation of a random strength (TrivialAugment Wide, Mueller and Hutter 2021)."""
    color_jitter: float = 0.0
    """Largest relative change of brightness, contrast and saturation; 0 switches it off."""
    hue: float = 0.0
    """Largest turn of the hue, as a share of the circle, in [0, 0.5]; 0 switches it off."""
    erasing: float = 0.0
    """Probability that a box is painted black (random erasing, Zhong et al. 2020); 0 switches it off."""
    erasing_area: list[float] = field(default_factory=lambda: [0.02, 0.33])
    """Smallest and largest share of the image's area that ``erasing`` paints over."""
    mixup: float = 0.0
    """Blend each image and label with those of another example, by a share from Beta(a, a) with this a (mixup, Zhang et
    al. 2018); 0 switches it off.  Not under DP."""
    cutmix: float = 0.0
    """Replace a box of each image, of a share from Beta(a, a) with this a, by that of another example, and its label as
    far (CutMix, Yun et al. 2019); 0 switches it off.  Beside ``mixup``, one of the two per image.  Not under DP."""

    @property
    def mixes(self) -> bool:
        """Whether anything is on that makes one image of two examples."""
        return bool(self.mixup or self.cutmix)

    @property
    def changing(self) -> tuple[str, ...]:
        """The keys that change an image, or make one of two."""
        switches = (
            *("random_resized_crop", "crop_padding", "flip", "rotation", "rand_augment", "trivial_augment"),
            *("color_jitter", "hue", "erasing", "mixup", "cutmix"),
        )
        return tuple(key for key in switches if getattr(self, key))

    @property
    def draws_more(self) -> bool:
        """Whether one of the changes that came later is on, which take random numbers of their own."""
        return bool(self.rotation or self.rand_augment or self.trivial_augment or self.erasing)

    @property
    def changes_pixels(self) -> bool:
        """Whether anything is on that changes an image by itself."""
        old = self.crop_padding or self.flip or self.random_resized_crop or self.color_jitter or self.hue
        return bool(old) or self.draws_more


LATER = {
    name: getattr(AugmentConfig(), name)
    for name in (
        *("rotation", "rand_augment", "rand_augment_magnitude", "trivial_augment", "erasing", "erasing_area"),
        *("mixup", "cutmix"),
    )
}
"""Keys that came later, with the values by which they change nothing: left out of the identities of runs."""
