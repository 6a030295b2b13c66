"""Networks with weights, called with arrays."""

from __future__ import annotations

import ctypes
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._library import (
    CLASSES_OF_WEIGHTS,
    DEVICES,
    LAYOUT_NCHW,
    PRECISIONS,
    TUNE_AUTO,
    Architecture,
    ModelOptions,
    SessionOptions,
    address,
    check,
    lib,
)
from .images import Photo, Preprocessing, preprocess

Floats = NDArray[np.float32]

_LEVELS = ("level2", "level3", "level4", "level5")
_SESSIONS_KEPT = 8


@dataclass(frozen=True)
class Score:
    """One guess of Model.classify."""

    label: Optional[str]
    probability: float
    index: int
    wnid: Optional[str]


class _Session:
    """A model made ready for one shape of input and one choice of outputs."""

    def __init__(self, model: ctypes.c_void_p, shape: Tuple[int, ...], features: Tuple[str, ...], threads: int, exact: bool,
                 half_weights: bool, device: int, precision: int) -> None:
        self.handle = ctypes.c_void_p()
        names = (ctypes.c_char_p * len(features))(*(name.encode() for name in features))
        options = SessionOptions(
            ctypes.sizeof(SessionOptions), shape[0], shape[2], shape[3], threads, exact, names if features else None, len(features),
            half_weights, TUNE_AUTO, device, precision,
        )
        check(lib.dla_session_create(model, ctypes.byref(options), ctypes.byref(self.handle)))
        self.shapes: List[Tuple[int, ...]] = []
        for index in range(lib.dla_session_output_count(self.handle)):
            shape_of_output = (ctypes.c_int * 4)()
            lib.dla_session_output_shape(self.handle, index, shape_of_output)
            self.shapes.append(tuple(shape_of_output))

    def run(self, batch: Floats) -> List[Floats]:
        outputs = [np.empty(shape, np.float32) for shape in self.shapes]
        pointers = (ctypes.c_void_p * len(outputs))(*(output.ctypes.data for output in outputs))
        check(lib.dla_session_run(self.handle, LAYOUT_NCHW, address(batch), pointers))
        return outputs

    def __del__(self) -> None:
        lib.dla_session_destroy(self.handle)


class Model:
    """A network with weights. Calling it with float32 (batch, 3, height, width) gives logits (batch, classes).

    name      a published network, "dla34" (dla.models() lists them); None: as the weights say
    weights   path of a weights file; None: the built-in network
    config    path of a JSON file that describes a network of your own, instead of a name
    threads   0: one per physical core
    exact     keep to kernels that sum as a direct convolution does (no Winograd)
    half_weights  weights may be kept as float16 where their bytes bound the time
    device    "cpu", or "cuda" for an NVIDIA GPU in a library built for it
    precision on a GPU: "float32", "tf32", "float16" or "bfloat16"

    A Model may be used from several threads; their calls wait for each other.
    """

    def __init__(
        self,
        name: Optional[str] = None,
        weights: Union[str, "os.PathLike[str]", None] = None,
        *,
        config: Union[str, "os.PathLike[str]", None] = None,
        threads: int = 0,
        exact: bool = False,
        half_weights: bool = False,
        device: str = "cpu",
        precision: str = "float32",
    ) -> None:
        if name is not None and config is not None:
            raise ValueError("a network has a name or a config, not both")
        if device not in DEVICES or precision not in PRECISIONS:
            raise ValueError(f"device {device!r}, precision {precision!r}: possible are {', '.join(DEVICES)}; {', '.join(PRECISIONS)}")
        self._handle = ctypes.c_void_p()
        self._options = (threads, exact, half_weights, DEVICES.index(device), PRECISIONS.index(precision))
        self._sessions: "OrderedDict[Tuple[Tuple[int, ...], Tuple[str, ...]], _Session]" = OrderedDict()
        self._lock = threading.Lock()
        options = ModelOptions(ctypes.sizeof(ModelOptions), None, None if weights is None else os.fsencode(weights))
        architecture = Architecture()
        if config is not None:
            check(lib.dla_architecture_read_config(os.fsencode(config), ctypes.byref(architecture)))
        elif name is not None:
            check(lib.dla_architecture_find(name.encode(), ctypes.byref(architecture)))
            architecture.num_classes = CLASSES_OF_WEIGHTS
        if name is not None or config is not None:
            options.architecture = ctypes.pointer(architecture)
        check(lib.dla_model_open(ctypes.byref(options), ctypes.byref(self._handle)))

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._sessions.clear()   # before the model that they use
            lib.dla_model_close(self._handle)

    def __repr__(self) -> str:
        return f"<dla.Model {self.name}, {self.class_count} classes>"

    @property
    def name(self) -> str:
        architecture = lib.dla_network_architecture(lib.dla_model_network(self._handle))
        return str(architecture.contents.name.decode())

    @property
    def class_count(self) -> int:
        return int(lib.dla_model_class_count(self._handle))

    @property
    def labels(self) -> List[Optional[str]]:
        return [self._text(lib.dla_model_label, index) for index in range(self.class_count)]

    @property
    def wnids(self) -> List[Optional[str]]:
        return [self._text(lib.dla_model_wnid, index) for index in range(self.class_count)]

    @property
    def preprocessing(self) -> Preprocessing:
        """How photographs were prepared when it was trained."""
        return Preprocessing._of(lib.dla_model_preprocessing(self._handle).contents)

    @property
    def report(self) -> str:
        """What loading the weights used and left, a few lines."""
        return str(lib.dla_model_report(self._handle).decode())

    def __call__(self, array: ArrayLike) -> Floats:
        """Logits (batch, classes); of a network without classifier the embedding (batch, channels); dense: (batch, classes, height, width)."""
        (result,) = self._run(array, ())
        return result.reshape(result.shape[:2]) if result.shape[2:] == (1, 1) else result

    def features(self, array: ArrayLike, names: Sequence[str] = _LEVELS) -> Dict[str, Floats]:
        """Feature maps by name, each (batch, channels, height, width): level0 ... level5, or any node of the network."""
        names = tuple(names)
        return dict(zip(names, self._run(array, names))) if names else {}

    def forward_features(self, array: ArrayLike) -> Floats:
        """The last feature map before pooling, as timm's forward_features."""
        return self.features(array, ("level5",))["level5"]

    def embed(self, array: ArrayLike) -> Floats:
        """What the classifier sees: (batch, channels), the last feature map averaged."""
        pooled = self.features(array, ("global_pool",))["global_pool"]
        return pooled.reshape(pooled.shape[:2])

    def preprocess(self, photo: Photo, *, exif: bool = True) -> Floats:
        """A photograph as this network wants it: float32 (1, 3, size, size)."""
        return preprocess(photo, self.preprocessing, exif=exif)

    def classify(self, photo: Photo, topk: int = 5) -> List[Score]:
        """The topk most probable classes of a photograph, best first."""
        logits = self(self.preprocess(photo))[0].astype(np.float64)
        probabilities = np.exp(logits - logits.max())
        probabilities /= probabilities.sum()
        best = np.argsort(-probabilities, kind="stable")[: max(topk, 0)]
        return [
            Score(self._text(lib.dla_model_label, int(i)), float(probabilities[i]), int(i), self._text(lib.dla_model_wnid, int(i)))
            for i in best
        ]

    def _text(self, function: "ctypes._FuncPointer", index: int) -> Optional[str]:
        text = function(self._handle, index)
        return None if text is None else str(text.decode())

    def _run(self, array: ArrayLike, features: Tuple[str, ...]) -> List[Floats]:
        batch = np.ascontiguousarray(array, np.float32)
        if batch.ndim == 3:
            batch = batch[np.newaxis]
        channels = lib.dla_network_architecture(lib.dla_model_network(self._handle)).contents.in_channels
        if batch.ndim != 4 or batch.shape[1] != channels or 0 in batch.shape:
            raise ValueError(f"the input is (batch, {channels}, height, width), not {np.shape(array)}")
        with self._lock:
            key = (batch.shape, features)
            session = self._sessions.pop(key, None) or _Session(self._handle, batch.shape, features, *self._options)
            self._sessions[key] = session
            if len(self._sessions) > _SESSIONS_KEPT:
                self._sessions.popitem(last=False)
            return session.run(batch)
