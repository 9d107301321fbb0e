"""FILM-QNN (Sun et al., FPGA 2022): in every layer one filter in twenty has weights of 8 bits, the others 4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from codesign._typing import FloatArray
from codesign.allocation.methods.dealing_rows import check_two_formats, dealt
from codesign.allocation.methods.protocol import Allocation, Task
from codesign.allocation.space import Granularity, Space
from codesign.errors import UserError
from codesign.formats.row_format import FIXED4, FIXED8
from codesign.quant.curvature import filter_eigenvalues
from codesign.quant.placing import array


@dataclass(frozen=True)
class FilmQnn:
    """The method.

    Attributes:
        share: of the filters that get 8 bits, from 0 to 1.
        by: which ones: those whose squared error 8 bits lower most, or those of the largest Hessian eigenvalue, as
            RMSMP chooses.
    """

    share: float = 0.05
    by: Literal["error", "eigenvalue"] = "error"

    name = "film-qnn"
    paper = "FILM-QNN, Sun et al. 2022"
    equations = "95 % of a layer's filters with 4-bit weights, 5 % with 8-bit ones, activations of 5 bits"
    decides = "row (filter): weights of 4 or 8 bits, in one ratio in every layer"
    choices = "w4a5,w8a5"
    limited = False
    granularity: Granularity = "row"
    deviations = (
        "which filters get 8 bits is not in what was at hand: those whose squared error it lowers most; those of the "
        "largest Hessian eigenvalue, as RMSMP of the same authors has it, with `by` eigenvalue",
        "5 % rounds up, so every layer has at least one filter of 8 bits",
        "the paper packs activations of 5 bits into DSP slices; here they run as the next wider codes that the "
        "accelerator has",
        "filters keep their places, and what the paper's weight reordering is for is done by the compiler, which deals "
        "filters of a format to the rows that hold it",
        "the paper itself was not at hand: written from its abstract and its description in surveys",
    )

    def check(self, space: Space) -> None:
        """UserError for other weights than of 4 and 8 bits."""
        check_two_formats(self, space, (FIXED4, FIXED8))

    def allocate(self, task: Task) -> Allocation:
        """Rows in the ratio; UserError for limits and pins, which a ratio does not know."""
        self.check(task.space)
        if not 0 <= self.share <= 1:
            raise UserError(f"share: {self.share:g} given, must be 0 to 1")
        ratio = {FIXED4: 1 - self.share, FIXED8: self.share}
        subject = task.subject
        eigenvalues: dict[str, FloatArray] = {}
        if self.by == "eigenvalue":
            images = array(subject.images)
            found = filter_eigenvalues(subject.model, images, count=len(images), seed=task.seed)
            eigenvalues = {name: array(values.double()) for name, values in found.items()}

        def importance(name: str) -> FloatArray:
            if eigenvalues:
                return eigenvalues[name]
            four, eight = (subject.error(name, form).double().square().sum(1) for form in (FIXED4, FIXED8))
            return array(four - eight)

        return dealt(self, task, ratio, importance, importance)
