"""The C API of libdla as ctypes sees it: structures and prototypes from include/dla/dla.h, and errors as exceptions."""

from __future__ import annotations

import ctypes
import os
import pathlib
from ctypes import POINTER, Structure, c_bool, c_char, c_char_p, c_double, c_float, c_int, c_int64, c_size_t, c_void_p

import numpy as np


class DlaError(Exception):
    """A call of libdla failed; `status` is its short name, such as "format" or "not found"."""

    def __init__(self, message: str, status: str) -> None:
        super().__init__(message)
        self.status = status


class Architecture(Structure):
    _fields_ = [
        ("name", c_char * 64),
        ("levels", c_int * 6),
        ("channels", c_int * 6),
        ("block", c_int),
        ("cardinality", c_int),
        ("base_width", c_int),
        ("scale", c_int),
        ("residual_root", c_bool),
        ("num_classes", c_int),
        ("in_channels", c_int),
        ("output_stride", c_int),
        ("down_ratio", c_int),
    ]


class DecodeOptions(Structure):
    _fields_ = [("struct_size", c_size_t), ("ignore_exif", c_bool), ("max_pixels", c_int64)]


class PreprocessingFields(Structure):
    _fields_ = [("size", c_int), ("crop_pct", c_double), ("interpolation", c_int), ("mean", c_float * 3), ("std", c_float * 3)]


class ModelOptions(Structure):
    _fields_ = [("struct_size", c_size_t), ("architecture", POINTER(Architecture)), ("weights", c_char_p)]


class SessionOptions(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("batch", c_int),
        ("height", c_int),
        ("width", c_int),
        ("threads", c_int),
        ("exact", c_bool),
        ("features", POINTER(c_char_p)),
        ("feature_count", c_size_t),
        ("half_weights", c_bool),
        ("tune", c_int),
        ("device", c_int),
        ("precision", c_int),
    ]


CLASSES_OF_WEIGHTS = -1
TUNE_AUTO = 0
DEVICES = ("cpu", "cuda")   # in the order of dla_device
PRECISIONS = ("float32", "tf32", "float16", "bfloat16")   # of dla_precision
PIXELS_RGB = 0
LAYOUT_NCHW = 0
MAX_PIXELS = 178956970

_PROTOTYPES = {
    "dla_error_message": (c_char_p, []),
    "dla_status_name": (c_char_p, [c_int]),
    "dla_version": (c_char_p, []),
    "dla_architecture_count": (c_size_t, []),
    "dla_architecture_at": (POINTER(Architecture), [c_size_t]),
    "dla_architecture_find": (c_int, [c_char_p, POINTER(Architecture)]),
    "dla_architecture_read_config": (c_int, [c_char_p, POINTER(Architecture)]),
    "dla_image_decode": (c_int, [c_char_p, c_size_t, c_char_p, POINTER(DecodeOptions), POINTER(c_void_p)]),
    "dla_image_read": (c_int, [c_char_p, POINTER(DecodeOptions), POINTER(c_void_p)]),
    "dla_image_from_pixels": (c_int, [c_void_p, c_int, c_int, c_size_t, c_int, POINTER(c_void_p)]),
    "dla_image_destroy": (None, [c_void_p]),
    "dla_image_preprocess": (c_int, [c_void_p, POINTER(PreprocessingFields), c_int, c_void_p]),
    "dla_model_open": (c_int, [POINTER(ModelOptions), POINTER(c_void_p)]),
    "dla_model_close": (None, [c_void_p]),
    "dla_model_network": (c_void_p, [c_void_p]),
    "dla_model_preprocessing": (POINTER(PreprocessingFields), [c_void_p]),
    "dla_model_class_count": (c_int, [c_void_p]),
    "dla_model_label": (c_char_p, [c_void_p, c_int]),
    "dla_model_wnid": (c_char_p, [c_void_p, c_int]),
    "dla_model_report": (c_char_p, [c_void_p]),
    "dla_network_architecture": (POINTER(Architecture), [c_void_p]),
    "dla_session_create": (c_int, [c_void_p, POINTER(SessionOptions), POINTER(c_void_p)]),
    "dla_session_destroy": (None, [c_void_p]),
    "dla_session_output_count": (c_size_t, [c_void_p]),
    "dla_session_output_shape": (None, [c_void_p, c_size_t, c_int * 4]),
    "dla_session_run": (c_int, [c_void_p, c_int, c_void_p, POINTER(c_void_p)]),
}


def _load() -> ctypes.CDLL:
    beside = pathlib.Path(__file__).with_name("libdla.so")
    path = os.environ.get("DLA_LIBRARY") or (str(beside) if beside.exists() else "libdla.so.0.1")
    library = ctypes.CDLL(path)
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


lib = _load()


def check(status: int) -> None:
    """Raises the calling thread's last error unless status is DLA_OK."""
    if status != 0:
        raise DlaError(lib.dla_error_message().decode(errors="replace"), lib.dla_status_name(status).decode())


def address(array: np.ndarray) -> c_void_p:
    return c_void_p(array.ctypes.data)
