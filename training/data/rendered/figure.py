"""An articulated body: a random plausible pose in three dimensions, seen from a random side.

Body frame: X to the person's own left, Y down, Z forward, origin between the hips, unit = standing height.
Image frame after ``sample_figure``: x right, y down, z towards the viewer. A person who faces the viewer has
the left hand on the right of the image.

Only anatomy and view (face or hair, chest or back, direction of feet and knees) distinguish left from right, so what a
network learns still holds when the image is mirrored and the labels swapped. A colour per side would break that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# fmt: off
(PELVIS, NECK, HEAD, TOP, NOSE, LEFT_EYE, RIGHT_EYE, LEFT_EAR, RIGHT_EAR, LEFT_SHOULDER, RIGHT_SHOULDER,
 LEFT_ELBOW, RIGHT_ELBOW, LEFT_WRIST, RIGHT_WRIST, LEFT_HIP, RIGHT_HIP, LEFT_KNEE, RIGHT_KNEE, LEFT_ANKLE,
 RIGHT_ANKLE, LEFT_TOE, RIGHT_TOE, LEFT_HAND, RIGHT_HAND, CHIN, CROWN, HAIR_LOW, HAIR_HIGH, CHEST, BELLY,
 ) = range(31)
# fmt: on
POINTS = 31
FACE = (NOSE, LEFT_EYE, RIGHT_EYE)
COCO_POINTS = tuple(range(NOSE, RIGHT_ANKLE + 1))
CROWDPOSE_POINTS = (*range(LEFT_SHOULDER, RIGHT_ANKLE + 1), TOP, NECK)

Vector = tuple[float, float, float]
_Between = Callable[[float, float], float]


@dataclass(frozen=True)
class Figure:
    """One person before placement.

    Attributes:
        points: (31, 3) float64: x, y in units of the standing height, z towards the viewer.
        build: thickness of the limbs relative to the average.
        facing: cosine between chest and viewer: 1 front, 0 side, -1 back.
        face: the same for the face, which may be turned.
    """

    points: npt.NDArray[np.float64]
    build: float
    facing: float
    face: float


@dataclass(frozen=True)
class _Side:
    """Joint angles of one side in degrees; flexion is forward, abduction outward, twist turns the elbow."""

    shoulder_abduction: float
    shoulder_flexion: float
    elbow: float
    twist: float
    hip_abduction: float
    hip_flexion: float
    knee: float


def sample_figure(rng: np.random.Generator, liveliness: float = 1.0) -> Figure:
    """Draw body, pose and view; deterministic in the state of ``rng``.

    ``liveliness`` 1 draws from all poses and views; towards 0 people stand and walk, facing the viewer.
    """
    draw = rng.random(80).tolist().pop

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(draw())

    sides, lean, tilt = _sample_pose(between, liveliness)
    length = between(0.94, 1.06)
    shoulder_width = between(0.098, 0.125)
    hip_width = between(0.056, 0.072)
    points = np.zeros((POINTS, 3))

    trunk = _rotation_x(-lean) @ _rotation_z(tilt)
    head = trunk @ _rotation_y(between(-35, 35)) @ _rotation_x(between(-18, 14)) @ _rotation_z(between(-9, 9))
    upper = np.zeros((POINTS, 3))
    upper[NECK] = (0, -0.33, 0)
    upper[CHEST] = (0, -0.29, 0.055)
    upper[BELLY] = (0, -0.04, 0.06)
    for side, sign, angles in ((0, 1.0, sides[0]), (1, -1.0, sides[1])):
        upper[LEFT_SHOULDER + side] = (sign * shoulder_width, -0.305, 0)
        arm = _direction(sign, angles.shoulder_abduction, angles.shoulder_flexion)
        forearm = _bend(arm, _front_of(angles.shoulder_flexion, 1.0), angles.elbow, sign * angles.twist)
        upper[LEFT_ELBOW + side] = upper[LEFT_SHOULDER + side] + 0.172 * length * np.asarray(arm)
        upper[LEFT_WRIST + side] = upper[LEFT_ELBOW + side] + 0.150 * length * np.asarray(forearm)
        upper[LEFT_HAND + side] = upper[LEFT_WRIST + side] + 0.050 * np.asarray(forearm)

        points[LEFT_HIP + side] = (sign * hip_width, 0, 0)
        thigh = _direction(sign, angles.hip_abduction, angles.hip_flexion)
        shin = _bend(thigh, _front_of(angles.hip_flexion, -1.0), angles.knee, 0.0)
        toe = _bend(shin, _front_of(angles.hip_flexion - angles.knee, 1.0), 75.0, 0.0)
        points[LEFT_KNEE + side] = points[LEFT_HIP + side] + 0.245 * length * np.asarray(thigh)
        points[LEFT_ANKLE + side] = points[LEFT_KNEE + side] + 0.235 * length * np.asarray(shin)
        points[LEFT_TOE + side] = points[LEFT_ANKLE + side] + 0.075 * np.asarray(toe)
    turned = upper @ trunk.T
    # Hips belong to the lower body; everything that `upper` placed turns with the trunk.
    placed = upper.any(axis=1)
    points[placed] = turned[placed]
    centre = points[NECK] + trunk @ np.array((0, -0.10, 0.012))
    points[[HEAD, TOP, NOSE, LEFT_EYE, RIGHT_EYE, LEFT_EAR, RIGHT_EAR, CHIN, CROWN, HAIR_LOW, HAIR_HIGH]] = (
        centre + _HEAD_SHAPE @ head.T
    )

    view = between(0, 1)
    turn = 40 * (0.5 + 0.5 * liveliness)
    if view < 1 - 0.38 * liveliness:
        yaw = _bell(between) * turn
    elif view < 1 - 0.13 * liveliness:
        yaw = 180 + _bell(between) * turn
    else:
        yaw = math.copysign(between(50, 100), between(-1, 1))
    camera = _rotation_z(_bell(between) * 14) @ _rotation_x(between(-14, 8)) @ _rotation_y(yaw)
    return Figure(
        points=points @ camera.T,
        build=between(0.88, 1.22),
        facing=float((camera @ trunk)[2, 2]),
        face=float((camera @ head)[2, 2]),
    )


# HEAD, TOP, NOSE, eyes, ears, CHIN, CROWN, HAIR_LOW, HAIR_HIGH relative to the centre of the head.
_HEAD_SHAPE = np.array(
    [
        (0, 0, 0), (0, -0.090, 0), (0, 0.012, 0.074), (0.026, -0.012, 0.060), (-0.026, -0.012, 0.060),
        (0.058, 0, 0), (-0.058, 0, 0), (0, 0.026, 0.010), (0, -0.026, 0.008), (0, 0.006, -0.016), (0, -0.036, -0.012),
    ]
)  # fmt: skip


def _sample_pose(between: _Between, liveliness: float) -> tuple[tuple[_Side, _Side], float, float]:
    """Angles of both sides, forward lean and sideways tilt of the trunk, within anatomical limits."""
    kind = between(0, 1)
    # Standing gets the share left by walking, sitting, raised arms and jumping.
    jumping = 1 - 0.12 * liveliness
    raised = jumping - 0.14 * (0.5 + 0.5 * liveliness)
    sitting = raised - 0.18 * liveliness
    walking = sitting - 0.22 * (0.5 + 0.5 * liveliness)
    reach = 0.4 + 0.6 * liveliness
    lean, tilt = between(-4, 14), _bell(between) * 10

    def arm_down() -> tuple[float, float, float, float]:
        return between(4, 38), reach * between(-20, 35), reach * between(0, 80), reach * between(-50, 60)

    def arm_up() -> tuple[float, float, float, float]:
        return between(85, 170), reach * between(-10, 40), reach * between(0, 70), reach * between(-95, 20)

    def leg_standing() -> tuple[float, float, float]:
        return between(1, 16), between(-8, 14), between(0, 14)

    if kind < walking:  # standing, each arm down or up
        arms = [arm_up() if between(0, 1) < 0.2 else arm_down() for _ in range(2)]
        legs = [leg_standing() for _ in range(2)]
    elif kind < sitting:  # walking to running: opposite arms and legs swing
        stride = between(15, 55)
        lean += stride * 0.2
        first = 1.0 if between(0, 1) < 0.5 else -1.0
        swings = (first * stride, -first * stride * 0.7)
        legs = [
            (between(0, 7), swing, between(2, 20) if swing > 0 else between(15, 30 + stride))
            for swing in swings
        ]
        arms = [(between(4, 20), -0.9 * swing, between(30, 100), between(0, 30)) for swing in swings]
    elif kind < raised:  # sitting
        flexion, lean = between(65, 98), between(-10, 22)
        legs = [(between(2, 24), flexion + between(-6, 6), flexion + between(-25, 10)) for _ in range(2)]
        arms = [(between(5, 28), between(5, 55), between(15, 85), between(-10, 40)) for _ in range(2)]
    elif kind < jumping:  # both arms raised
        arms = [arm_up() for _ in range(2)]
        legs = [leg_standing() for _ in range(2)]
    else:  # jumping or stretching, limbs apart
        arms = [(between(45, 140), between(-10, 30), between(0, 60), between(-90, 60)) for _ in range(2)]
        legs = [(between(12, 45), between(-10, 40), between(0, 60)) for _ in range(2)]
    left, right = (_Side(*arm, *leg) for arm, leg in zip(arms, legs, strict=True))
    return (left, right), lean, tilt


def _bell(between: _Between) -> float:
    """Bell-shaped in [-1, 1]."""
    return (between(-1, 1) + between(-1, 1) + between(-1, 1)) / 3


def _direction(sign: float, abduction: float, flexion: float) -> Vector:
    a, f = math.radians(abduction), math.radians(flexion)
    return sign * math.sin(a), math.cos(a) * math.cos(f), math.cos(a) * math.sin(f)


def _front_of(flexion: float, sign: float) -> Vector:
    """The direction in which more flexion (``sign`` 1) or less (-1) moves a limb."""
    f = math.radians(flexion)
    return 0.0, -sign * math.sin(f), sign * math.cos(f)


def _bend(limb: Vector, toward: Vector, angle: float, twist: float) -> Vector:
    """Turn ``limb`` by ``angle`` towards ``toward``, itself turned about the limb by ``twist``; degrees."""
    (lx, ly, lz), (tx, ty, tz) = limb, toward
    along = lx * tx + ly * ty + lz * tz
    tx, ty, tz = tx - along * lx, ty - along * ly, tz - along * lz
    norm = math.sqrt(tx * tx + ty * ty + tz * tz) or 1.0
    tx, ty, tz = tx / norm, ty / norm, tz / norm
    ct, st = math.cos(math.radians(twist)), math.sin(math.radians(twist))
    cx, cy, cz = ly * tz - lz * ty, lz * tx - lx * tz, lx * ty - ly * tx
    tx, ty, tz = tx * ct + cx * st, ty * ct + cy * st, tz * ct + cz * st
    ca, sa = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return lx * ca + tx * sa, ly * ca + ty * sa, lz * ca + tz * sa


def _rotation_x(degrees: float) -> npt.NDArray[np.float64]:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def _rotation_y(degrees: float) -> npt.NDArray[np.float64]:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _rotation_z(degrees: float) -> npt.NDArray[np.float64]:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
