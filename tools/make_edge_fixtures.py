"""Makes tests/data/edges: MATLAB files as BSDS500 ships them, and maps thinned by an independent implementation.

    python tools/make_edge_fixtures.py        needs numpy, scipy and scikit-image
"""
import pathlib
import numpy as np
from scipy.io import savemat
from skimage.morphology import thin

folder = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "edges"
folder.mkdir(parents=True, exist_ok=True)
generator = np.random.default_rng(1)


def annotations(maps):
    cells = np.empty((1, len(maps)), dtype=object)
    for i, boundaries in enumerate(maps):
        cells[0, i] = {"Segmentation": np.cumsum(boundaries, axis=1).astype(np.uint16), "Boundaries": boundaries.astype(np.uint8)}
    return {"groundTruth": cells}


frame = np.zeros((5, 7)); frame[0] = frame[-1] = 1; frame[:, 0] = frame[:, -1] = 1
diagonal = np.zeros((5, 7)); diagonal[np.arange(5), np.arange(5) + 1] = 1
savemat(folder / "two_annotators.mat", annotations([frame, diagonal]), do_compression=True)
savemat(folder / "uncompressed.mat", annotations([diagonal]), do_compression=False)
square = np.zeros((40, 48)); square[10, 12:36] = square[29, 12:36] = 1; square[10:30, 12] = square[10:30, 35] = 1
line = np.zeros((40, 48)); line[35] = 1
savemat(folder / "square.mat", annotations([square, square, square + line, line]), do_compression=True)
savemat(folder / "no_ground_truth.mat", {"something_else": diagonal}, do_compression=True)

# height, width, then rows of the map and of its thinned form, as text
with open(folder / "thinned.txt", "w") as out:
    for height, width, density in ((1, 1, 1.0), (3, 3, 1.0), (9, 14, 0.7), (17, 5, 0.9), (24, 31, 0.5), (20, 20, 1.0), (40, 33, 0.85)):
        before = generator.random((height, width)) < density
        out.write(f"{height} {width}\n")
        for each in (before, thin(before)):
            for row in each:
                out.write("".join("#" if pixel else "." for pixel in row) + "\n")
