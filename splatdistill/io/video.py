"""Pictures for people: the turntable video, the contact sheet, single images. F frames, H W pixels."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Generator, Iterable, Sequence
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from splatdistill.io.files import NotWritten, is_full, remove_folder, replacing

Picture = Tensor | np.ndarray
"""[H,W,3], uint8 or floating point in 0..1."""


def to_uint8(picture: Picture) -> np.ndarray:
    """[...,3] uint8 from uint8 or from floating point, which is clipped to 0..1 and rounded."""
    array = picture.detach().cpu().numpy() if isinstance(picture, Tensor) else picture
    if array.dtype == np.uint8:
        return array
    return (np.nan_to_num(array.astype(np.float32)).clip(0, 1) * 255 + 0.5).astype(np.uint8)


def write_image(path: Path, picture: Picture) -> None:
    """Writes one picture in the format that the suffix of `path` names, whole or not at all."""
    encoded = BytesIO()  # Pillow does not tell why it could not write to a disk
    Image.fromarray(to_uint8(picture)).save(encoded, Image.registered_extensions()[path.suffix.lower()])
    with replacing(path) as temporary:
        temporary.write_bytes(encoded.getvalue())


def write_turntable(path: Path, frames: Iterable[Picture], *, fps: int = 30) -> Path:
    """Writes an .mp4 of equally large pictures with even sides, whole or not at all; returns what was written.

    Where no encoder is found, that is the folder `<stem>_frames` of numbered .png files instead.
    """
    if not has_encoder():
        return _write_frames(path.with_name(f"{path.stem}_frames"), frames)
    import imageio_ffmpeg  # pyright: ignore[reportMissingTypeStubs]

    pictures = (to_uint8(frame) for frame in frames)
    first = next(pictures)
    height, width = first.shape[:2]
    if height % 2 or width % 2:
        raise ValueError(f"{path.name}: frames are {width} x {height} pixels; a video needs even sides.")
    sent = 0
    with replacing(path) as temporary:
        options: dict[str, Any] = {"fps": fps, "quality": 8, "macro_block_size": 2, "ffmpeg_log_level": "quiet"}
        encoder = cast(
            "Generator[None, Any, None]",
            imageio_ffmpeg.write_frames(str(temporary), (width, height), **options),  # pyright: ignore[reportUnknownMemberType]
        )
        encoder.send(None)  # starts the process
        try:
            for picture in chain([first], pictures):
                encoder.send(np.ascontiguousarray(picture))
                sent += 1
        except OSError as error:  # the process ended, and says nothing that a program could read
            raise _cut(path) from error
        finally:
            encoder.close()
        if _frames_of(temporary) != sent:  # the end of the process tells nothing: not even that the disk was full
            raise _cut(path)
    return path


def _frames_of(film: Path) -> int:
    """The frames that can be decoded; 0 where it is no film."""
    import imageio_ffmpeg  # pyright: ignore[reportMissingTypeStubs]

    try:
        return cast(Any, imageio_ffmpeg).count_frames_and_secs(str(film))[0] or 0
    except (RuntimeError, ValueError, OSError):
        return 0


def _cut(path: Path) -> NotWritten:
    why = "the disk is full" if is_full(path.parent) else "the encoder stopped before its end"
    return NotWritten(f"{path} was not written: {why}.")


def write_gif(path: Path, frames: Iterable[Picture], *, fps: int = 25) -> Path:
    """Writes a looping .gif of equally large pictures, whole or not at all; returns its path."""
    first, *rest = (Image.fromarray(to_uint8(frame)) for frame in frames)
    encoded = BytesIO()
    first.save(encoded, "GIF", save_all=True, append_images=rest, duration=1000 // fps, loop=0)
    with replacing(path) as temporary:
        temporary.write_bytes(encoded.getvalue())
    return path


def write_contact_sheet(path: Path, pictures: Sequence[Picture], *, columns: int = 4) -> None:
    """Writes pictures [H,W,3] of one size, evenly spaced azimuths from the front on, as one labelled sheet."""
    tiles = [to_uint8(picture) for picture in pictures]
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    for i, tile in enumerate(tiles):
        corner = (i % columns * width, i // columns * height)
        sheet.paste(Image.fromarray(tile), corner)
        draw.text((corner[0] + 4, corner[1] + 2), f"{360 * i / len(tiles):g}°", fill=(120, 120, 120))
    write_image(path, np.asarray(sheet))


def has_encoder() -> bool:
    """Whether videos can be written here."""
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        return False
    from imageio_ffmpeg import get_ffmpeg_exe  # pyright: ignore[reportMissingTypeStubs]

    try:
        get_ffmpeg_exe()
    except RuntimeError:  # this platform's wheel carries no ffmpeg and none is installed
        return False
    return True


def _write_frames(folder: Path, frames: Iterable[Picture]) -> Path:
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    remove_folder(temporary)
    temporary.mkdir()
    try:
        for i, frame in enumerate(frames):
            write_image(temporary / f"{i:04d}.png", frame)
        remove_folder(folder)
        temporary.rename(folder)
    except NotWritten as error:
        raise NotWritten(f"{folder} was not written: {str(error).partition(': ')[2]}") from error
    except OSError as error:
        raise NotWritten.because(folder, error) from error
    finally:
        remove_folder(temporary)
    return folder
