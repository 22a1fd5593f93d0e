"""A scene of MovingShapes: what is drawn, how it moves, its true flow.

The class decides the motion and nothing else. Whatever a still frame shows has the same distribution in all classes,
at every frame number:

* the sprite starts anywhere on a torus (what leaves on one side enters on the other), so it is anywhere at any time;
* its size is a function of a *phase* in [0, 1) that is uniform at the start. Classes "approach" and "recede" run the
  phase forwards and backwards, the others hold it. At the end of the phase the large sprite fades while a small one
  appears inside it, so that growing never has to stop;
* shape, colours, textures and the camera's pan are drawn before the class is looked at.

A scene of several acts does one motion after another, from where the one before it ended; its class is their order.

All lengths below are pixels of a 40-pixel frame and grow with the frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

CLASSES = ("slide", "rise", "fall", "orbit", "approach", "recede", "shake", "bounce")

REFERENCE_SIZE = 40
RADIUS = (5.0, 7.0)  # at the middle of the phase
SIZE_RANGE = 4.0  # largest over smallest size of one sprite
GROWTH_PER_FRAME = 3.0 ** (1 / 23)  # x3 over 24 frames
FADE = 0.1  # part of the phase in which two sizes are seen at once
SPEED = (0.8, 1.5)  # slide, rise, fall: pixels a frame
ORBIT_RADIUS, ORBIT_PERIOD = (6.0, 10.0), (12.0, 20.0)
SHAKE_AMPLITUDE, SHAKE_PERIOD = (2.5, 4.5), (5.0, 7.0)
BOUNCE_HEIGHT, BOUNCE_PERIOD = (8.0, 13.0), (11.0, 16.0)
PAN = 0.25  # most the camera moves a frame
OUTLINE_WAVES = 3  # lobes of the outline: 2, 3, 4 around
# Appearance identifies a video as well as its motion does, and is learnt sooner: so videos look alike, with nearly one
# grey between sprite and background and faint colours. And a fine texture on a fast sprite is ambiguous (it moves by
# half a wave between two frames of a clip, either way): so the sprite is plainly lighter or darker than what it hides,
# and its texture coarse and faint. R@1 in trials, after 10 epochs: 61; with fine,
# strong textures 47; with vivid colours and a strong background 30.
MIDDLE = (0.42, 0.58)  # between the mean colours of sprite and background, each channel
STEP = (0.30, 0.40)  # from one to the other; which is the lighter is drawn
TINT = 0.06  # each channel's own part of the step, at most
TEXTURE_WAVES, TEXTURE_FREQUENCY, TEXTURE_AMPLITUDE = 16, 3.0, 0.06  # frequency: standard deviation, radians a radius
BACKGROUND_DEVIATION = 0.045


@dataclass(frozen=True)
class Scene:
    """One video of MovingShapes: everything about it is a function of these arguments.

    Args:
        label: 0..7, the place in :data:`CLASSES`; or several, one an act.
        seed: integers that seed this scene alone.
        size: height and width in pixels.
        frames: number of frames F, of all acts together; they are equally long.
        ramp: most that the light changes from the first frame to the last, as a share; a video's own is drawn, of
            either sign, and is linear in time.
    """

    label: int | tuple[int, ...]
    seed: tuple[int, ...]
    size: int = 40
    frames: int = 24
    ramp: float = 0.0
    _drawn: dict = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(self.seed)))
        unit = self.size / REFERENCE_SIZE
        drawn = self._drawn
        # Appearance first, and always the same number of draws before the class is looked at.
        drawn["start"] = generator.uniform(0, self.size, 2)
        drawn["phase"] = generator.uniform()
        drawn["radius"] = generator.uniform(*RADIUS) * unit
        direction, speed = generator.uniform(0, 2 * math.pi), generator.uniform(0, PAN)
        drawn["pan"] = speed * unit * np.array([math.cos(direction), math.sin(direction)])
        drawn["outline"] = generator.uniform(-0.06, 0.06, (2, OUTLINE_WAVES))
        drawn["colours"] = _two_colours(generator)
        drawn["texture_waves"] = generator.normal(0, TEXTURE_FREQUENCY, (TEXTURE_WAVES, 2))
        drawn["texture_phases"] = generator.uniform(0, 2 * math.pi, TEXTURE_WAVES)
        drawn["texture_colours"] = generator.normal(0, TEXTURE_AMPLITUDE, (TEXTURE_WAVES, 3))
        drawn["background"] = _background_spectrum(generator, self.size)
        acts = (self.label,) if isinstance(self.label, int) else self.label
        length = self.frames // len(acts)
        offsets, phases = np.zeros((1, 2)), np.zeros(1)
        for number, act in enumerate(acts):
            motion = generator.uniform(size=4)
            path, step = _motion(CLASSES[act], motion, length + 1, unit)
            # An act goes on from where the last one ended; the only act of a scene is left as it is, to the bit.
            path = path if number == 0 else offsets[-1] + path - path[0]
            offsets = np.concatenate([offsets[:-1], path])
            phases = np.concatenate([phases[:-1], phases[-1] + np.arange(length + 1) * step])
        drawn["offsets"], drawn["phase_path"] = offsets, phases
        change = generator.uniform(-self.ramp, self.ramp) if self.ramp else 0.0
        drawn["light"] = 1.0 + change * (np.arange(self.frames) / max(self.frames - 1, 1) - 0.5)

    @property
    def centres(self) -> np.ndarray:
        """Centre (x, y) of the sprite, float64 ``[F + 1, 2]`` in pixels, not wrapped; one frame more than is drawn."""
        time = np.arange(self.frames + 1)[:, None]
        return self._drawn["start"] + self._drawn["offsets"] + time * self._drawn["pan"]

    def render(self) -> np.ndarray:
        """The frames, uint8 RGB ``[F, H, W, 3]``."""
        drawn = self._drawn
        picture = self._background()
        for x, y, alpha in self._layers():
            seen = alpha > 0
            angles = np.stack([x[seen], y[seen]], axis=1) @ drawn["texture_waves"].T + drawn["texture_phases"]
            texture = drawn["colours"][1] + np.sin(angles) @ drawn["texture_colours"]
            picture[seen] += alpha[seen][:, None] * (texture - picture[seen])
        picture *= drawn["light"][:, None, None, None]
        return np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)

    def mask(self) -> np.ndarray:
        """Where the sprite is seen, bool ``[F, H, W]``."""
        background = 1.0
        for _, _, alpha in self._layers():
            background = background * (1 - alpha)
        return background < 0.5

    def flow(self) -> np.ndarray:
        """The true flow, float32 ``[F, 2, H, W]``: (u right, v down) in pixels, from frame t to frame t + 1.

        The last entry leads to the frame that would follow. A pixel that becomes hidden still has the motion of the
        thing that it shows.
        """
        x, y = self._offsets_from_centre()
        growth = SIZE_RANGE ** np.diff(self._drawn["phase_path"])[:, None, None, None] - 1.0
        step = np.diff(self.centres, axis=0)[..., None, None]
        sprite = step + growth * np.stack([x, y], axis=1)
        pan = self._drawn["pan"][:, None, None]
        return np.where(self.mask()[:, None], sprite, pan).astype(np.float32)

    def _offsets_from_centre(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixel centres seen from the sprite's centre, the short way round the torus: x, y ``[F, H, W]`` in pixels."""
        pixels = np.arange(self.size) + 0.5
        half = self.size / 2
        offsets = (pixels - self.centres[:-1, :, None] + half) % self.size - half
        shape = (self.frames, self.size, self.size)
        return np.broadcast_to(offsets[:, 0, None, :], shape), np.broadcast_to(offsets[:, 1, :, None], shape)

    def _layers(self):
        """The sprite's one or two sizes, the lower first: (x, y in radii, alpha), each ``[F, H, W]``."""
        drawn = self._drawn
        phase = (drawn["phase"] + drawn["phase_path"][:-1]) % 1.0
        shown = np.minimum(phase / FADE, 1.0)
        layers = [(phase, shown)]
        if (shown < 1).any():
            layers.insert(0, (phase + 1.0, 1.0 - shown))
        x, y = self._offsets_from_centre()
        angle = np.arctan2(y, x)
        outline = 1.0
        for wave, (cosine, sine) in enumerate(drawn["outline"].T, start=2):
            outline = outline + cosine * np.cos(wave * angle) + sine * np.sin(wave * angle)
        distance = np.hypot(x, y)
        for layer_phase, opacity in layers:
            radius = (drawn["radius"] * SIZE_RANGE ** (layer_phase - 0.5))[:, None, None]
            inside = np.clip(outline * radius - distance + 0.5, 0, 1)  # a soft edge, one pixel wide
            yield x / radius, y / radius, inside * opacity[:, None, None]

    def _background(self) -> np.ndarray:
        """The background under the pan, ``[F, H, W, 3]``: moved in the frequency domain, so by any part of a pixel."""
        pan = np.arange(self.frames)[:, None] * self._drawn["pan"]
        row = np.exp(-2j * np.pi * pan[:, 1, None] * np.fft.fftfreq(self.size))
        column = np.exp(-2j * np.pi * pan[:, 0, None] * np.fft.rfftfreq(self.size))
        spectrum = self._drawn["background"] * (row[:, :, None] * column[:, None, :])[..., None]
        texture = np.fft.irfft2(spectrum, s=(self.size, self.size), axes=(1, 2))
        return self._drawn["colours"][0] + texture


def _motion(name: str, draw: np.ndarray, frames: int, unit: float) -> tuple[np.ndarray, float]:
    """Offsets (x, y) of the sprite from where it starts, ``[frames, 2]``, and how far its phase moves a frame."""
    time = np.arange(frames)
    zero = np.zeros(frames)

    def between(bounds: tuple[float, float], value: float) -> float:
        return bounds[0] + (bounds[1] - bounds[0]) * value

    side = 1.0 if draw[3] < 0.5 else -1.0  # the mirror image is as likely
    speed = between(SPEED, draw[0]) * unit
    grow = math.log(GROWTH_PER_FRAME) / math.log(SIZE_RANGE)
    if name == "slide":
        return np.stack([side * speed * time, zero], axis=1), 0.0
    if name in ("rise", "fall"):
        return np.stack([zero, (speed if name == "fall" else -speed) * time], axis=1), 0.0
    if name in ("approach", "recede"):
        return np.stack([zero, zero], axis=1), grow if name == "approach" else -grow
    if name == "orbit":
        radius = between(ORBIT_RADIUS, draw[0]) * unit
        angle = 2 * math.pi * (time / between(ORBIT_PERIOD, draw[1]) * side + draw[2])
        return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1), 0.0
    if name == "shake":
        angle = 2 * math.pi * (time / between(SHAKE_PERIOD, draw[1]) + draw[2])
        return np.stack([between(SHAKE_AMPLITUDE, draw[0]) * unit * np.sin(angle), zero], axis=1), 0.0
    height = between(BOUNCE_HEIGHT, draw[0]) * unit
    moment = (time / between(BOUNCE_PERIOD, draw[1]) + draw[2]) % 1.0
    return np.stack([zero, -height * 4 * moment * (1 - moment)], axis=1), 0.0  # a ball's parabola, up is negative


def _two_colours(generator: np.random.Generator) -> np.ndarray:
    """Mean colours of background and sprite, ``[2, 3]``: STEP apart, on either side of a colour in MIDDLE."""
    middle = generator.uniform(*MIDDLE, 3)
    step = generator.uniform(*STEP) + generator.uniform(-TINT, TINT, 3)
    lighter = 1.0 if generator.random() < 0.5 else -1.0
    return np.stack([middle - lighter * step / 2, middle + lighter * step / 2])


def _background_spectrum(generator: np.random.Generator, size: int) -> np.ndarray:
    """Spectrum ``[size, size // 2 + 1, 3]`` of a smooth random texture that wraps, mean 0."""
    noise = np.fft.rfft2(generator.normal(size=(size, size, 3)), axes=(0, 1))
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)) * size  # cycles a frame
    # Nothing at the mean, 1/f above, little beyond 8 waves a frame: a texture that codec and resampling keep.
    weight = np.where(frequency > 0, np.exp(-((frequency / 8) ** 2)) / np.maximum(frequency, 1), 0)
    spectrum = noise * weight[..., None]
    texture = np.fft.irfft2(spectrum, s=(size, size), axes=(0, 1))
    return spectrum * (BACKGROUND_DEVIATION / texture.std())
