"""Drawn faces: the valence is in mouth, brow and eyes; identity, size and light are nuisance.

A face is drawn on a grid of three by three points per pixel, so that edges are smooth. Its pixels
depend on the draws alone; the bytes of the file also depend on the versions of Pillow and zlib.
"""

from __future__ import annotations

import io
import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 40
"""Width and height of a picture, in pixels."""
_POINTS = 3
_SKIN = ((236, 196, 168), (214, 164, 130), (176, 124, 92), (128, 84, 60), (92, 60, 44))
_HAIR = ((40, 30, 26), (92, 60, 34), (168, 124, 66), (206, 176, 112), (120, 116, 114))

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Identity:
    """The features of a person that do not change with the expression; lengths in half pictures."""

    skin: tuple[int, int, int]
    hair: tuple[int, int, int]
    head_width: float
    head_height: float
    hairline: float
    eye_distance: float
    eye_size: float
    brow_height: float
    brow_thickness: float
    nose_length: float
    mouth_height: float
    mouth_width: float
    lip_thickness: float

    @property
    def numbers(self) -> tuple[float, ...]:
        """The lengths, and the brightness of skin and hair."""
        return (
            sum(self.skin) / 765,
            sum(self.hair) / 765,
            *(self.head_width, self.head_height, self.hairline, self.eye_distance, self.eye_size),
            *(self.brow_height, self.brow_thickness, self.nose_length, self.mouth_height),
            *(self.mouth_width, self.lip_thickness),
        )


@dataclass(frozen=True)
class Expression:
    """What shows the valence; each is about +1 in a positive face and -1 in a negative one."""

    mouth: float
    brow: float
    eyes: float


@dataclass(frozen=True)
class View:
    """Size, place and light of a picture; `light` is the brightness, `side` its slope."""

    size: float
    across: float
    down: float
    light: float
    side: float
    background: float

    @property
    def numbers(self) -> tuple[float, ...]:
        return (self.size, self.across, self.down, self.light, self.side, self.background)


STANDARD = View(size=1.0, across=0.0, down=0.0, light=1.0, side=0.0, background=0.5)
"""A view that is the same for every face."""


def draw_identity(rng: random.Random) -> Identity:
    """A person, uniformly drawn."""

    def near(value: float, by: float) -> float:
        return value + rng.uniform(-by, by)

    def tinted(colour: tuple[int, int, int]) -> tuple[int, int, int]:
        red, green, blue = (min(255, max(0, part + rng.randint(-14, 14))) for part in colour)
        return red, green, blue

    return Identity(
        skin=tinted(rng.choice(_SKIN)),
        hair=tinted(rng.choice(_HAIR)),
        head_width=near(0.60, 0.09),
        head_height=near(0.78, 0.08),
        hairline=near(-0.48, 0.09),
        eye_distance=near(0.26, 0.045),
        eye_size=near(0.10, 0.02),
        brow_height=near(-0.29, 0.05),
        brow_thickness=near(0.045, 0.018),
        nose_length=near(0.17, 0.05),
        mouth_height=near(0.40, 0.06),
        mouth_width=near(0.26, 0.06),
        lip_thickness=near(0.055, 0.02),
    )


def draw_expression(rng: random.Random, positive: bool) -> Expression:
    """An expression of a valence; how strong each part of it is varies."""
    sign = 1 if positive else -1
    strength = rng.uniform(0.45, 1.0)
    mouth, brow, eyes = (sign * strength + rng.gauss(0, 0.25) for _ in range(3))
    return Expression(mouth, brow, eyes)


def draw_view(rng: random.Random) -> View:
    """A size, a place and a light, drawn whatever the valence."""
    return View(
        size=rng.uniform(0.72, 1.08),
        across=rng.uniform(-0.10, 0.10),
        down=rng.uniform(-0.10, 0.10),
        light=rng.uniform(0.5, 1.1),
        side=rng.uniform(-0.35, 0.35),
        background=rng.uniform(0.1, 0.9),
    )


def _ellipse(x: Array, y: Array, width: float, height: float) -> NDArray[np.bool_]:
    return (x / width) ** 2 + (y / height) ** 2 < 1


def draw_face(
    person: Identity, expression: Expression, view: View, noise: int | None
) -> NDArray[np.uint8]:
    """The pixels of a face, (SIDE, SIDE, 3).

    Args:
        noise: seed of the noise of the camera; None: no noise.
    """
    points = SIDE * _POINTS
    line = (np.arange(points) + 0.5) / points * 2 - 1
    x, y = np.meshgrid((line - view.across) / view.size, (line - view.down) / view.size)
    picture = np.full((points, points, 3), 255 * view.background)
    head = _ellipse(x, y, person.head_width, person.head_height)
    crown = _ellipse(x, y + 0.05, person.head_width + 0.08, person.head_height + 0.08)
    picture[crown & (y < 0.1)] = person.hair
    picture[head] = person.skin
    picture[crown & (y < person.hairline + 0.15 * x**2)] = person.hair
    dark = np.array(person.skin) * 0.35
    for side in (-1, 1):
        away = side * x - person.eye_distance  # grows outwards from the eye's centre
        up = y + 0.10
        eye = _ellipse(away, up, person.eye_size * 1.4, person.eye_size)
        # A smile raises the lower lid; a frown lowers the upper one.
        lids = max(-1.0, min(1.0, expression.eyes)) * person.eye_size * 0.55
        eye &= (up < person.eye_size - lids) if lids > 0 else (up > -person.eye_size - lids)
        picture[eye] = 245
        picture[eye & _ellipse(away, up, person.eye_size * 0.6, person.eye_size * 0.8)] = 25
        # A frown lowers the inner end of the brow.
        slope = 0.35 * expression.brow * (away / (person.eye_size * 2))
        brow = np.abs(y - person.brow_height - slope * person.eye_size * 1.6)
        picture[(brow < person.brow_thickness) & (np.abs(away) < person.eye_size * 2)] = (
            np.array(person.hair) * 0.6
        )
    nose = (np.abs(x) < 0.03 + 0.04 * (y + 0.05)) & (y > -0.05) & (y < person.nose_length)
    picture[nose] = np.array(person.skin) * 0.72
    bend = 0.13 * expression.mouth * (0.5 - (x / person.mouth_width) ** 2)
    mouth = np.abs(y - person.mouth_height - bend) < person.lip_thickness
    picture[mouth & (np.abs(x) < person.mouth_width)] = dark + np.array([70, 0, 0])
    picture *= view.light * (1 + view.side * line[None, :, None])
    small = picture.reshape(SIDE, _POINTS, SIDE, _POINTS, 3).mean(axis=(1, 3))
    if noise is not None:
        small += np.random.default_rng(noise).normal(0, 6, small.shape)
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """The pixels as a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()
