"""Photographs to network inputs, bit for bit as Pillow and torchvision prepare them."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from typing import Any, Tuple, Union

import numpy as np
from numpy.typing import NDArray

from ._library import LAYOUT_NCHW, MAX_PIXELS, PIXELS_RGB, DecodeOptions, PreprocessingFields, address, check, lib

#: A path, the bytes of a JPEG, PNG or WebP file, or uint8 RGB pixels (height, width, 3), such as np.asarray(pillow_image).
Photo = Union[str, "os.PathLike[str]", bytes, NDArray[np.uint8]]

_INTERPOLATIONS = ("bilinear", "bicubic")


@dataclass(frozen=True)
class Preprocessing:
    """Shorter side to floor(size / crop_pct), centre crop of size x size, then (pixel / 255 - mean) / std."""

    size: int = 224
    crop_pct: float = 0.875
    interpolation: str = "bilinear"
    mean: Tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: Tuple[float, float, float] = (0.229, 0.224, 0.225)

    @classmethod
    def _of(cls, fields: PreprocessingFields) -> "Preprocessing":
        mean, std = tuple(fields.mean), tuple(fields.std)
        return cls(fields.size, fields.crop_pct, _INTERPOLATIONS[fields.interpolation], mean, std)

    def _fields(self) -> PreprocessingFields:
        if self.interpolation not in _INTERPOLATIONS:
            raise ValueError(f"interpolation is bilinear or bicubic, not {self.interpolation!r}")
        triple = ctypes.c_float * 3
        return PreprocessingFields(
            self.size, self.crop_pct, _INTERPOLATIONS.index(self.interpolation), triple(*self.mean), triple(*self.std)
        )


def _open(photo: Photo, exif: bool) -> ctypes.c_void_p:
    image = ctypes.c_void_p()
    if isinstance(photo, np.ndarray):
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3:
            raise ValueError(f"pixels are uint8 of (height, width, 3), not {photo.dtype} of {photo.shape}")
        pixels = np.ascontiguousarray(photo)
        height, width, _ = pixels.shape
        check(lib.dla_image_from_pixels(address(pixels), height, width, 3 * width, PIXELS_RGB, ctypes.byref(image)))
        return image
    options = DecodeOptions(ctypes.sizeof(DecodeOptions), not exif, MAX_PIXELS)
    if isinstance(photo, bytes):
        check(lib.dla_image_decode(photo, len(photo), b"photo", ctypes.byref(options), ctypes.byref(image)))
    else:
        check(lib.dla_image_read(os.fsencode(photo), ctypes.byref(options), ctypes.byref(image)))
    return image


def preprocess(photo: Photo, preprocessing: Preprocessing = Preprocessing(), *, exif: bool = True) -> NDArray[np.float32]:
    """A photograph as float32 (1, 3, size, size), ready for a Model. exif=False keeps the orientation as stored."""
    if preprocessing.size < 1:
        raise ValueError(f"size is at least 1, not {preprocessing.size}")
    fields = preprocessing._fields()
    output: NDArray[Any] = np.empty((1, 3, preprocessing.size, preprocessing.size), np.float32)
    image = _open(photo, exif)
    try:
        check(lib.dla_image_preprocess(image, ctypes.byref(fields), LAYOUT_NCHW, address(output)))
    finally:
        lib.dla_image_destroy(image)
    return output
