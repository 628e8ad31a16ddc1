"""Image files of known formats that are not decoded: left out, and said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from runner.config.words.pluralize import pluralize

_BY_FORMAT = {
    "HEIC": ".heic .heif .hif .heics .heifs",
    "JPEG XL": ".jxl",
    "JPEG XR": ".jxr .wdp .hdp",
    "camera raw": (
        ".dng .cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .orf .rw2 .raf .pef .srw .x3f .3fr .erf .kdc .dcr .mrw .rwl"
        " .iiq .raw"
    ),
    "DICOM": ".dcm .dicom",
    "NIfTI": ".nii .nii.gz",
    "FITS": ".fits .fit .fts",
    "OpenEXR": ".exr",
    "Radiance": ".hdr",
    "Photoshop": ".psd .psb",
    "SVG": ".svg .svgz",
    "PostScript": ".eps .ps .ai",
    "PDF": ".pdf",
    "Windows metafile": ".wmf .emf",
    "DjVu": ".djvu",
    "QOI": ".qoi",
    "PCX": ".pcx",
    "SGI": ".sgi .rgb .rgba .bw",
    "DDS": ".dds",
    "ICNS": ".icns",
    "X11": ".xbm .xpm",
    "GIMP": ".xcf",
    "numpy": ".npy .npz",
    "video": ".mp4 .mov .avi .mkv .webm",
}
_FORMATS = {suffix: name for name, suffixes in _BY_FORMAT.items() for suffix in suffixes.split()}


def format_of(name: str) -> str | None:
    """The format of a file by its suffix, where it is one of those that hold images and are not decoded."""
    lower = name.lower()
    if lower.endswith(".nii.gz"):
        return _FORMATS[".nii.gz"]
    return _FORMATS.get(lower[lower.rfind(".") :]) if "." in lower else None


def note_undecodable(paths: Iterable[str]) -> str | None:
    """What to say of those of ``paths`` that are such files; None where none is."""
    found = [(path, form) for path in paths if (form := format_of(path.rpartition("/")[2]))]
    if not found:
        return None
    formats = ", ".join(f"{count:,} {form}" for form, count in Counter(form for _, form in found).most_common())
    return (
        f"{pluralize(len(found), 'file')} left out, of formats that are not decoded: {formats}; the first is"
        f" {found[0][0]}; as JPEG or PNG they would be read"
    )
