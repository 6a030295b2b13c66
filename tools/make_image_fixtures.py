#!/usr/bin/env python3
"""make_image_fixtures.py - the pictures in tests/data/images and what must come out of them; seeds for fuzz/corpus.

Writes small synthetic pictures of every kind that the decoders know, and three lists that the C tests read:

  decoded.txt       file, EXIF honoured or not, width, height, hash of the RGB pixels
  resized.txt       sizes, box, interpolation, hash of the result; the source is a formula that the test computes, too
  preprocessed.txt  file, size, crop_pct, interpolation, then some of the normalised values

Decoded JPEG and WebP pixels, resized pixels and normalised values are those of Pillow and torchvision. PNG pixels follow from
how the file was made (Pillow clips 16-bit grey and drops transparency; we keep the high byte and stand on white); where Pillow
means the same, it is asked for its opinion. Needs: pillow >= 13, numpy, torch, torchvision.
"""
import io
import math
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, __version__ as pillow_version

OUT = Path(__file__).resolve().parent.parent / "tests" / "data" / "images"
CORPUS = OUT.parent.parent.parent / "fuzz" / "corpus"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in bytes(data):
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def scene(height, width, seed=0):
    """Something like a photograph: soft light, hard edges, a little noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(float)
    y, x = (y + 0.5) / height, (x + 0.5) / width
    red = 90 + 120 * x + 30 * np.sin(9 * y)
    green = 200 - 110 * y + 25 * np.sin(14 * x + 5 * y)
    blue = 60 + 90 * (1 - x) * y + 40 * np.cos(11 * (x + y))
    picture = np.stack([red, green, blue], -1)
    disc = (x - 0.6) ** 2 + (y - 0.4) ** 2 < 0.05
    picture[disc] = (230, 40, 50)
    picture[(x > 0.1) & (x < 0.3) & (y > 0.5) & (y < 0.9)] = (20, 30, 160)
    picture[((x * 20).astype(int) + (y * 20).astype(int)) % 11 == 0] *= 0.6
    picture += rng.normal(0, 4, picture.shape)
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)


# ---- files ------------------------------------------------------------------------------------------------------------

decoded = []


def keep(name, data):
    (OUT / name).write_bytes(data)
    return data


def expect(name, pixels, exif="exif"):
    pixels = np.ascontiguousarray(pixels, np.uint8)
    height, width, channels = pixels.shape
    assert channels == 3
    decoded.append(f"{name} {exif} {width} {height} {fnv1a(pixels.tobytes()):016x}")


def over_white(image):
    white = Image.new("RGBA", image.size, "white")
    return np.asarray(Image.alpha_composite(white, image.convert("RGBA")).convert("RGB"))


def keep_as_pillow_reads(name, data):
    """For JPEG and WebP."""
    keep(name, data)
    image = Image.open(io.BytesIO(data))
    upright = ImageOps.exif_transpose(image)
    if image.mode == "RGBA":
        expect(name, over_white(upright))
    else:
        expect(name, np.asarray(upright.convert("RGB")))
    if upright.size != image.size or image.getexif().get(0x0112, 1) != 1:
        expect(name, np.asarray(image.convert("RGB")), "no-exif")


def saved(image, **options):
    out = io.BytesIO()
    image.save(out, **options)
    return out.getvalue()


def jpeg(name, image, **options):
    keep_as_pillow_reads(name, saved(image, format="JPEG", **{"quality": 85, **options}))


def segments(data):
    """Offsets and markers of a JPEG's segments before the first scan."""
    offset = 2
    while data[offset + 1] != 0xDA:
        yield offset, data[offset + 1], struct.unpack(">H", data[offset + 2 : offset + 4])[0]
        offset += 2 + struct.unpack(">H", data[offset + 2 : offset + 4])[0]


def with_adobe_transform(data, transform):
    data = bytearray(data)
    for offset, marker, _ in segments(data):
        if marker == 0xEE:
            data[offset + 15] = transform
            return bytes(data)
    raise ValueError("no Adobe marker")


def without_marker(data, unwanted):
    for offset, marker, length in segments(data):
        if marker == unwanted:
            return data[:offset] + data[offset + 2 + length :]
    raise ValueError(f"no marker {unwanted:02x}")


def make_jpegs():
    rgb = Image.fromarray(scene(61, 97))
    for name, subsampling in (("444", 0), ("422", 1), ("420", 2)):
        jpeg(f"base_{name}.jpg", rgb, subsampling=subsampling)
        jpeg(f"progressive_{name}.jpg", rgb, subsampling=subsampling, progressive=True)
    jpeg("quality_3.jpg", rgb, quality=3)
    jpeg("quality_100.jpg", Image.fromarray(scene(33, 40)), quality=100)
    jpeg("optimised.jpg", rgb, optimize=True)
    jpeg("restart_blocks.jpg", rgb, restart_marker_blocks=3)
    jpeg("restart_rows.jpg", rgb, restart_marker_rows=1, progressive=True)
    jpeg("grey.jpg", rgb.convert("L"))
    jpeg("grey_progressive.jpg", rgb.convert("L"), progressive=True)
    jpeg("tiny_1x1.jpg", Image.fromarray(scene(1, 1)))
    jpeg("tiny_3x2.jpg", Image.fromarray(scene(2, 3)))
    jpeg("odd_17x33.jpg", Image.fromarray(scene(33, 17)))
    jpeg("wide.jpg", Image.fromarray(scene(23, 211)))
    jpeg("tall.jpg", Image.fromarray(scene(190, 41)))
    cmyk = saved(Image.fromarray(np.concatenate([scene(40, 52), scene(40, 52, 1)[:, :, :1] // 3], -1), "CMYK"), format="JPEG", quality=90)
    keep_as_pillow_reads("cmyk.jpg", cmyk)
    keep_as_pillow_reads("cmyk_no_adobe.jpg", without_marker(cmyk, 0xEE))
    keep_as_pillow_reads("ycck.jpg", with_adobe_transform(cmyk, 2))
    keep_as_pillow_reads("rgb.jpg", saved(Image.fromarray(scene(40, 52)), format="JPEG", quality=90, keep_rgb=True))
    comment = saved(rgb, format="JPEG", quality=60, comment=b"not a picture " * 20)
    keep_as_pillow_reads("extraneous_bytes.jpg", comment[:-2] + b"\x00\x11\x22" + comment[-2:])


def exif_block(orientation, big_endian):
    end = ">" if big_endian else "<"
    entries = [(0x010F, 2, 4, b"dla\0"), (0x0112, 3, 1, struct.pack(end + "HH", orientation, 0))]
    block = (b"MM\0*" if big_endian else b"II*\0") + struct.pack(end + "IH", 8, len(entries))
    for tag, kind, count, value in entries:
        block += struct.pack(end + "HHI", tag, kind, count) + value
    return block + bytes(4)


def make_oriented():
    picture = Image.fromarray(scene(19, 26))
    for orientation in range(1, 9):
        exif = b"Exif\0\0" + exif_block(orientation, orientation % 2 == 0)
        jpeg(f"exif_{orientation}.jpg", picture, exif=exif)
    keep_as_pillow_reads("exif_6.webp", saved(picture, format="WEBP", lossless=True, exif=exif_block(6, True)))


def png(width, height, depth, colour_type, rows, interlaced=False, chunks=()):
    """rows: a list of rows of packed bytes, or for interlaced files of seven such lists."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    passes = rows if interlaced else [rows]
    raw = b"".join(b"\0" + row for one in passes for row in one if len(row) > 0)
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, int(interlaced))
    extra = b"".join(chunk(kind, data) for kind, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


def packed_rows(samples, depth):
    """samples: (height, width, channels) of integers below 2 ** depth."""
    if depth == 16:
        return [row.astype(">u2").tobytes() for row in samples]
    if depth == 8:
        return [row.astype(np.uint8).tobytes() for row in samples]
    rows = []
    for row in samples:
        bits = "".join(f"{value:0{depth}b}" for value in row.ravel())
        bits += "0" * (-len(bits) % 8)
        rows.append(bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)))
    return rows


def adam7(samples, depth):
    starts = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    parts = [samples[y::down, x::right] for y, x, down, right in starts]
    return [packed_rows(part, depth) if part.size else [] for part in parts]


def make_pngs():
    height, width = 21, 29
    picture = scene(height, width)
    alpha = np.clip(np.add.outer(np.arange(height) * 14, np.arange(width) * 9) - 60, 0, 255)
    fine = np.random.default_rng(5).integers(0, 256, (height, width, 4))
    kinds = {0: (1, "grey"), 2: (3, "rgb"), 3: (1, "palette"), 4: (2, "grey_alpha"), 6: (4, "rgba")}
    palette = scene(16, 16, 3).reshape(256, 3)
    for colour_type, (channels, kind) in kinds.items():
        for depth in {0: (1, 2, 4, 8, 16), 3: (1, 2, 4, 8)}.get(colour_type, (8, 16)):
            colours = picture[:, :, :1] if channels <= 2 else picture
            bytes_8 = np.concatenate([colours, alpha[:, :, None]], -1) if channels in (2, 4) else colours
            bytes_8 = bytes_8.astype(int)
            samples = bytes_8 * 256 + fine[:, :, : bytes_8.shape[2]] if depth == 16 else bytes_8 >> (8 - depth)
            chunks = []
            if colour_type == 3:
                chunks.append((b"PLTE", palette[: 2**depth].tobytes()))
                rgb = palette[samples[:, :, 0]]
            else:
                eight = samples >> 8 if depth == 16 else samples * 255 // (2**depth - 1)
                rgb = np.repeat(eight[:, :, :1], 3, 2) if channels <= 2 else eight[:, :, :3]
                if channels in (2, 4):
                    rgba = np.concatenate([rgb, eight[:, :, -1:]], -1).astype(np.uint8)
                    rgb = over_white(Image.fromarray(rgba, "RGBA"))
            for interlaced in (False, True):
                rows = adam7(samples, depth) if interlaced else packed_rows(samples, depth)
                name = f"{kind}_{depth}{'_interlaced' if interlaced else ''}.png"
                data = keep(name, png(width, height, depth, colour_type, rows, interlaced, chunks))
                expect(name, rgb)
                if channels in (1, 3) and (colour_type, depth) != (0, 16):
                    assert (np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) == rgb).all(), name

    # A colour that stands for "transparent", in grey and RGB, and a palette with transparency.
    samples = picture[:, :, :1].astype(int)
    grey = int(samples[3, 4, 0])
    rgb = np.where(samples == grey, 255, samples)
    keep("grey_8_trns.png", png(width, height, 8, 0, packed_rows(samples, 8), chunks=[(b"tRNS", struct.pack(">H", grey))]))
    expect("grey_8_trns.png", np.repeat(rgb, 3, 2))
    wide = np.repeat(samples, 3, 2) * 257
    keep("rgb_16_trns.png", png(width, height, 16, 2, packed_rows(wide, 16), chunks=[(b"tRNS", struct.pack(">HHH", *[grey * 257] * 3))]))
    expect("rgb_16_trns.png", np.repeat(rgb, 3, 2))
    opacity = np.clip(np.arange(256) * 2 - 100, 0, 255).astype(np.uint8)
    chunks = [(b"PLTE", palette.tobytes()), (b"tRNS", opacity.tobytes())]
    data = keep("palette_8_trns.png", png(width, height, 8, 3, packed_rows(samples, 8), chunks=chunks))
    rgba = np.concatenate([palette, opacity[:, None]], -1)[samples[:, :, 0]]
    expect("palette_8_trns.png", over_white(Image.fromarray(rgba, "RGBA")))
    assert (over_white(Image.open(io.BytesIO(data))) == over_white(Image.fromarray(rgba, "RGBA"))).all()

    # Orientation, sizes at which an interlaced file has empty passes, and a header that promises too much.
    data = keep("exif_8.png", png(width, height, 8, 2, packed_rows(picture, 8), chunks=[(b"eXIf", exif_block(8, False))]))
    expect("exif_8.png", np.rot90(picture))
    expect("exif_8.png", picture, "no-exif")
    assert (np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))) == np.rot90(picture)).all()
    for h, w in ((1, 1), (2, 3), (5, 4)):
        name = f"tiny_{w}x{h}_interlaced.png"
        keep(name, png(w, h, 8, 2, adam7(picture[:h, :w], 8), True))
        expect(name, picture[:h, :w])
    keep("bomb_60000x60000.png", png(60000, 60000, 8, 2, [bytes(100)]))
    keep("promise_13000x13000.png", png(13000, 13000, 8, 2, [bytes(100)]))


def make_webps():
    rgb, alpha = scene(45, 58), np.clip(np.add.outer(np.arange(45) * 9, np.arange(58) * 7) - 100, 0, 255).astype(np.uint8)
    rgba = Image.fromarray(np.concatenate([rgb, alpha[:, :, None]], -1), "RGBA")
    keep_as_pillow_reads("lossy.webp", saved(Image.fromarray(rgb), format="WEBP", quality=70))
    keep_as_pillow_reads("lossless.webp", saved(Image.fromarray(rgb), format="WEBP", lossless=True))
    keep_as_pillow_reads("lossy_alpha.webp", saved(rgba, format="WEBP", quality=70))
    keep_as_pillow_reads("lossless_alpha.webp", saved(rgba, format="WEBP", lossless=True, exact=True))
    keep_as_pillow_reads("tiny_1x1.webp", saved(Image.fromarray(rgb[:1, :1]), format="WEBP", quality=50))

    # An animation whose first frame covers a part of the canvas, lossy with transparency: frames are cut out by the encoder.
    clear = Image.new("RGBA", rgba.size, (0, 0, 0, 0))
    first = clear.copy()
    first.paste(rgba.crop((10, 8, 40, 30)), (10, 8))
    data = saved(first, format="WEBP", save_all=True, append_images=[rgba, clear], duration=100, quality=80)
    keep("animated.webp", data)
    frame = Image.open(io.BytesIO(data))
    assert frame.n_frames == 3
    expect("animated.webp", over_white(frame))


# ---- resize -----------------------------------------------------------------------------------------------------------

def formula(height, width, channels, hard):
    """Noise that C computes as easily; `hard` leaves black and white, so that bicubic overshoots."""
    i = np.arange(height * width * channels, dtype=np.uint64)
    noise = ((i * np.uint64(2654435761)) & np.uint64(0xFFFFFFFF)) ^ (i >> np.uint64(3))
    value = ((noise * np.uint64(40503)) >> np.uint64(11)).astype(np.uint8)
    if hard:
        value = np.where(value & 128, 255, 0).astype(np.uint8)
    return value.reshape(height, width, channels)


def make_resized():
    sizes = [  # in height, in width, out height, out width
        (1, 1, 1, 1), (1, 1, 7, 5), (2, 3, 9, 8), (5, 4, 1, 1), (7, 9, 7, 9), (7, 9, 7, 4), (7, 9, 3, 9), (8, 1, 4, 3), (1, 40, 3, 11),
        (40, 1, 11, 3), (31, 47, 30, 46), (31, 47, 32, 48), (61, 97, 32, 51), (97, 61, 51, 32), (50, 50, 224, 224), (100, 133, 56, 74),
        (240, 320, 30, 40), (320, 100, 64, 64), (300, 60, 64, 64), (250, 33, 20, 16), (33, 250, 16, 20), (200, 16, 100, 8), (210, 20, 64, 64),
        (17, 500, 17, 31), (500, 17, 31, 17), (375, 500, 256, 341), (64, 64, 63, 65), (12, 400, 256, 10),
    ]
    lines = []
    rng = np.random.default_rng(11)
    for number, (in_height, in_width, out_height, out_width) in enumerate(sizes):
        for interpolation, pillow in (("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)):
            for boxed in (False, True):
                channels, hard = (1, 3)[(number + boxed) % 2], number % 3 == 0
                source = formula(in_height, in_width, channels, hard)
                image = Image.fromarray(source[:, :, 0] if channels == 1 else source)
                box = (0.0, 0.0, float(in_width), float(in_height))
                if boxed:
                    x, y = np.sort(rng.uniform(0, in_width, 2)), np.sort(rng.uniform(0, in_height, 2))
                    if number % 4 == 0:
                        x, y = np.round(x), np.round(y)
                    if x[1] - x[0] < 0.3 or y[1] - y[0] < 0.3:
                        continue
                    box = tuple(float(np.float32(v)) for v in (x[0], y[0], x[1], y[1]))
                result = np.asarray(image.resize((out_width, out_height), pillow, box=box))
                lines.append(f"{in_height} {in_width} {channels} {int(hard)} {out_height} {out_width} {interpolation} "
                             + " ".join(f"{v:.9g}" for v in box) + f" {fnv1a(result.tobytes()):016x}")
    return lines


# ---- preprocessing ----------------------------------------------------------------------------------------------------

VALUES = 60


def make_preprocessed():
    from torchvision import transforms
    from torchvision.transforms import InterpolationMode

    modes = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}
    cases = [
        ("base_420.jpg", 224, 0.875, "bilinear"), ("base_420.jpg", 224, 0.875, "bicubic"), ("base_444.jpg", 160, 0.95, "bilinear"),
        ("wide.jpg", 224, 0.875, "bilinear"), ("tall.jpg", 224, 0.875, "bilinear"), ("tall.jpg", 32, 0.875, "bilinear"),
        ("tall.jpg", 24, 0.7, "bicubic"), ("grey.jpg", 97, 1.0, "bilinear"), ("tiny_1x1.jpg", 64, 0.875, "bilinear"),
        ("tiny_3x2.jpg", 224, 0.875, "bicubic"), ("odd_17x33.jpg", 33, 0.9, "bilinear"), ("wide.jpg", 45, 1.3, "bilinear"),
        ("tall.jpg", 50, 1.25, "bicubic"), ("cmyk.jpg", 48, 0.875, "bilinear"),
    ]
    lines = []
    for name, size, crop_pct, interpolation in cases:
        transform = transforms.Compose([
            transforms.Resize(math.floor(size / crop_pct), modes[interpolation]), transforms.CenterCrop(size), transforms.ToTensor(),
            transforms.Normalize(MEAN, STD)])
        values = transform(Image.open(OUT / name).convert("RGB")).numpy().ravel()
        assert values.size == 3 * size * size
        positions = [k * (values.size - 1) // (VALUES - 1) for k in range(VALUES)]
        lines.append(f"{name} {size} {crop_pct:.17g} {interpolation} " + " ".join(f"{values[p]:.9g}" for p in positions))
    return lines


# ---- seeds for the fuzzers ----------------------------------------------------------------------------------------------

SEEDS = {
    "jpeg": ("tiny_3x2.jpg", "odd_17x33.jpg", "exif_6.jpg", "ycck.jpg", "small_progressive.jpg", "small_restart.jpg"),
    "png": ("grey_1.png", "grey_alpha_8.png", "palette_8_trns.png", "rgb_16_trns.png", "tiny_4x5_interlaced.png", "palette_4_interlaced.png",
            "exif_8.png"),
    "webp": ("tiny_1x1.webp", "exif_6.webp", "small_alpha.webp", "small_animated.webp"),
}


def make_seeds():
    small = Image.fromarray(scene(18, 20))
    clear = Image.new("RGBA", (18, 14), (0, 0, 0, 0))
    dot = clear.copy()
    dot.paste((200, 30, 40, 180), (4, 4, 12, 10))
    made = {
        "small_progressive.jpg": saved(small, format="JPEG", progressive=True),
        "small_restart.jpg": saved(small.convert("L"), format="JPEG", restart_marker_blocks=1),
        "small_alpha.webp": saved(dot, format="WEBP", quality=50),
        "small_animated.webp": saved(dot, format="WEBP", save_all=True, append_images=[clear], quality=50),
    }
    for door, names in SEEDS.items():
        folder = CORPUS / door
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / name).write_bytes(made[name] if name in made else (OUT / name).read_bytes())
    folder = CORPUS / "exif"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "little_endian").write_bytes(exif_block(6, False))
    (folder / "big_endian").write_bytes(b"Exif\0\0" + exif_block(3, True))


def main():
    if int(pillow_version.split(".")[0]) < 13:
        sys.exit("Pillow 13 or newer is needed: older ones resize tall pictures in another order")
    OUT.mkdir(parents=True, exist_ok=True)
    make_jpegs()
    make_oriented()
    make_pngs()
    make_webps()
    (OUT / "decoded.txt").write_text("\n".join(decoded) + "\n")
    (OUT / "resized.txt").write_text("\n".join(make_resized()) + "\n")
    (OUT / "preprocessed.txt").write_text("\n".join(make_preprocessed()) + "\n")
    make_seeds()


main()
