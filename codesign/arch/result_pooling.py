"""Max pooling of a convolution's results before they are written."""

from __future__ import annotations

from typing import Annotated

from codesign.arch.checks import integer
from codesign.arch.documents import Model


class ResultPooling(Model):
    """What finds the maxima of 2 x 2 and 3 x 3 windows in steps of 2 while the results of a convolution leave.

    Then max pooling takes no cycles of its own, and the map that it reads is never stored. A row of that map is whole
    tiles of `Hardware.columns` pixels, of which neighbours have a maximum at once; of the row before, maxima are kept.
    Other pooling layers, and those of wider maps, are done behind the convolution, as they are without this.

    Attributes:
        width: pixels in a row of the widest map whose maxima can be kept, a multiple of `Hardware.columns`.
    """

    width: Annotated[int, integer(2, 2046)]

    def __str__(self) -> str:
        """A few words for people."""
        return f"results pooled in rows up to {self.width}"
