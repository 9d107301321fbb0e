"""MSQ, "Mix and Match" (Chang et al., HPCA 2021): rows of low variance get SP2, sums of two powers of two."""

from __future__ import annotations

from dataclasses import dataclass

from codesign._typing import FloatArray
from codesign.allocation.methods.dealing_rows import check_two_formats, dealt
from codesign.allocation.methods.protocol import Allocation, Task
from codesign.allocation.space import Granularity, Space
from codesign.arch.hardware import Hardware
from codesign.errors import UserError
from codesign.formats.ratio import Ratio, band_ratio
from codesign.formats.row_format import FIXED4, SP2
from codesign.quant.placing import array


@dataclass(frozen=True)
class Msq:
    """The method.

    Attributes:
        share: of the rows that get SP2, from 0 to 1; None takes that of the accelerator's SP2 bands in its rows of SP2
            and of 4 bits.
    """

    share: float | None = None

    name = "msq"
    paper = "MSQ, Chang et al. 2021"
    equations = "level set of SP2, m1 = 2, m2 = 1; threshold on the rows' variance at the ratio of SP2 to Fixed"
    decides = "row: SP2 or Fixed of 4 bits, in the accelerator's ratio in every layer"
    choices = "sp2,w4"
    limited = False
    granularity: Granularity = "row"
    deviations = (
        "the ratio is that of the accelerator's bands; the paper adds SP2 rows in LUTs until a device of full DSP "
        "slices is full as well",
        "no ADMM: `quantize --assignment` trains the result by the straight-through estimator that the paper also uses",
        "rows go to the nearest level; the projection as printed does not map to the level set",
        "the paper itself was not at hand: written from its description in RMSMP's",
    )

    def check(self, space: Space) -> None:
        """UserError for other choices than SP2 and Fixed of 4 bits."""
        check_two_formats(self, space, (SP2, FIXED4))

    def check_bands(self, hw: Hardware) -> None:
        """UserError for an accelerator without bands of SP2 or of Fixed of 4 bits, unless a share is given."""
        self.ratio(hw)

    def allocate(self, task: Task) -> Allocation:
        """Rows in the ratio; UserError for limits and pins, and for bands without SP2 where no share is given."""
        self.check(task.space)

        def variances(name: str) -> FloatArray:
            return array(task.subject.weights(name).double().var(1, unbiased=False))

        return dealt(self, task, self.ratio(task.costs.hw), variances)

    def ratio(self, hw: Hardware) -> Ratio:
        """Shares of SP2 and Fixed; UserError where no share is given and the accelerator lacks bands of one of them."""
        if self.share is not None:
            if not 0 <= self.share <= 1:
                raise UserError(f"share: {self.share:g} given, must be 0 to 1")
            return {SP2: self.share, FIXED4: 1 - self.share}
        bands = band_ratio(hw)
        ratio = {form: bands[form] for form in (SP2, FIXED4) if form in bands}
        for form in (SP2, FIXED4):
            if form not in ratio:
                band = f"{{scheme: {form.scheme}, weight_bits: 4, rows: 1}}"
                raise UserError(
                    f"{hw.name}: no band of {form}, but the method '{self.name}' deals rows in the ratio of the bands "
                    f"of SP2 and of fixed point of 4 bits: add a band {band}"
                )
        return ratio
