"""Noise of decisions from weights and from maps, in one unit: that of IMPQ's bound, eq. (1).

Of weights it is the noise gain times the squared error that weights really get. Of a map that is read in fewer bits the
network is run so, with all else in float, and what its results really change by takes the place of the gradient:

    loss of a map = 1/2 mean over images of the sum over other classes i of (d(Z_i - Z_y))^2 / (Z_i - Z_y)^2.

Unlike IMPQ's, close margins count as `LEAST_MARGIN` of the largest one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from codesign._typing import FloatArray
from codesign.allocation.sensitivities.noise_gain import CLASSES, NoiseGain, gains, smallest_margins
from codesign.allocation.sensitivities.subject import Subject

LEAST_MARGIN = 0.1
"""Of the largest margin: with IMPQ's own, the few images near a tie say nearly all (docs/reference/methods.md)."""


@dataclass(frozen=True)
class DecisionNoise:
    """Noise gain times squared error of weights, and the squared change of margins over margins of maps.

    Attributes:
        classes: margins of an image that count.
        least_margin: what closer ones count as, of the largest.
    """

    classes: int = CLASSES
    least_margin: float = LEAST_MARGIN

    name = "decision-noise"
    summary = "noise gain times squared error, and of maps the change of margins over margins"
    paper = "codesign, after IMPQ's eq. 1"
    measures = "both"
    images = True
    rows = True

    def losses(self, subject: Subject) -> FloatArray:
        return self.losses_by(self.gains(subject), subject)

    def gains(self, subject: Subject) -> dict[str, Tensor]:
        """As `codesign.allocation.sensitivities.noise_gain.gains`, of its margins."""
        return gains(subject, self.classes, self.least_margin)

    def losses_by(self, gain: Mapping[str, Tensor], subject: Subject) -> FloatArray:
        """The losses from the `gains`."""
        space = subject.space
        found = NoiseGain(self.classes, self.least_margin).losses_by(gain, subject)
        if len({choice.act_bits for choice in space.choices}) == 1:
            return found  # the same for every choice: all rows of a layer read one map
        of_maps: dict[tuple[str, int], float] = {}
        for number, group in enumerate(space.groups):
            for place, choice in enumerate(space.choices):
                key = (group.layer, choice.act_bits)
                if key not in of_maps:
                    with subject.changed({}, {group.layer: choice.act_bits}):
                        of_maps[key] = decision_noise(subject, subject.results(), self.classes, self.least_margin)
                found[number, place] += of_maps[key]
        return found


def decision_noise(
    subject: Subject, results: Tensor, classes: int = CLASSES, least_margin: float = LEAST_MARGIN
) -> float:
    """Of (images, classes) results that are not quite the float network's; see above."""
    own, order, margins = smallest_margins(subject, classes, least_margin)
    change = results.double() - subject.float_results.double()
    moved = change.gather(1, order) - change.gather(1, own[:, None])
    return 0.5 * float((moved / margins.double()).square().sum(1).mean())
