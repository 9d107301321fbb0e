"""Pictures as their pixels say: grey or RGB, float32 in [0, 1].

What a picture says is kept, or the picture is refused: 16-bit grey keeps its 65,536 values; a palette stands for its
colours, CMYK, YCbCr, LAB and HSV for the RGB that Pillow gives. Refused are colours of 16 bits (Pillow reads 8 of
them), pixels that are transparent, several pictures in one file, integers of 32 bits and floats (which .npz holds).
"""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign._reading import MIB, excerpt, opened
from codesign.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
"""Of Pillow, which knows others that start programs (EPS)."""
MOST_BYTES = 256 * MIB
"""Of a file with a picture."""
MOST_PIXELS = 1 << 24
"""Of one picture: 4096 by 4096."""

_GREY = {"1": 255, "L": 255, "I;16": 65535, "I;16L": 65535, "I;16B": 65535, "I;16N": 65535}
"""What white is, by Pillow's mode."""
_COLOUR = ("RGB", "RGBX", "P", "CMYK", "YCbCr", "LAB", "HSV")
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")


def read_image(path: Path) -> NDArray[np.float32]:
    """The pixels of a picture, (1 or 3, height, width), from 0 to 1.

    Raises:
        UserError: no picture, a damaged one, one of more than 2^24 pixels, or one that would lose what it says.
    """
    from PIL import Image, UnidentifiedImageError

    with opened(path, MOST_BYTES) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(file, formats=FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise UserError(f"{path}: {image.width}x{image.height} pixels, must be at most {MOST_PIXELS:,}")
                if getattr(image, "is_animated", False):
                    raise UserError(f"{path}: holds several pictures, must hold one")
                return _pixels(path, image)
        except UnidentifiedImageError:
            raise UserError(f"{path}: not an image that is read ({', '.join(FORMATS)}), or damaged") from None
        # Pillow's readers raise what they stumble over
        except (
            *(OSError, EOFError, ValueError, SyntaxError, TypeError, LookupError, AttributeError, ArithmeticError),
            *(RuntimeError, MemoryError, struct.error, Image.DecompressionBombError),
        ) as error:
            raise UserError(f"{path}: not an image, or damaged ({excerpt(error, 100)})") from None


def _pixels(path: Path, image: Any) -> NDArray[np.float32]:
    mode = image.mode
    if mode not in ("I", *_GREY) and _is_wide(image):
        raise UserError(f"{path}: colours or alpha of 16 bits, must be grey of up to 16 bits or colours of 8")
    if mode == "I" and image.format in ("PNG", "PPM"):  # 16 bits in a wider type
        return _scaled(np.asarray(image), 65535)
    if mode in _GREY and "transparency" not in image.info:
        return _scaled(np.asarray(image.convert("L") if mode == "1" else image), _GREY[mode])
    if mode in _ALPHA or "transparency" in image.info:
        grey = mode in ("1", "L", "LA", "La")
        image = image.convert("LA" if grey else "RGBA")
        if np.asarray(image)[..., -1].min() < 255:
            raise UserError(f"{path}: has transparent pixels, must have none (save it without alpha)")
        return _scaled(np.asarray(image)[..., : 1 if grey else 3], 255)
    if mode not in _COLOUR:
        raise UserError(f"{path}: pixels of Pillow's mode {mode}, must be {', '.join((*_GREY, *_COLOUR, *_ALPHA))}")
    return _scaled(np.asarray(image.convert("RGB")), 255)


def _is_wide(image: Any) -> bool:
    """Whether a file has more than 8 bits a colour, which its mode does not tell."""
    for tile in image.tile:
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if any(";16" in str(item) for item in arguments):
            return True
        if image.format == "PPM" and any(isinstance(item, int) and item > 255 for item in arguments):
            return True  # the value of white
    return False


def _scaled(pixels: NDArray[Any], white: int) -> NDArray[np.float32]:
    channels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(channels, dtype=np.float32) / np.float32(white)
