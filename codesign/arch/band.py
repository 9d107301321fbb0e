"""A band of the array: rows whose processing elements hold one weight format."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import model_validator

from codesign.arch.checks import choice, integer, rejected
from codesign.arch.documents import Model
from codesign.arch.scheme import TWO_TERM_SCHEMES, TWO_TERMS, Scheme

WEIGHT_BITS = {
    Scheme.FIXED: (2, 8),
    Scheme.POT: (3, 5),
    Scheme.APOT: (4, 5),
    Scheme.SP2: (4, 4),
    Scheme.TERNARY: (2, 2),
    Scheme.BINARY: (1, 1),
}
"""Smallest and largest weight width of a band."""

NO_WIDER = {
    Scheme.POT: "with 6 bits it would shift by up to 30 places, which no accumulator holds",
    Scheme.APOT: "its level sets end there",
    Scheme.SP2: "MSQ has no other level set",
}
"""Why there are no wider bands of a scheme."""

Dataflow = Literal["os", "ws"]
"""Output stationary or weight stationary."""

PACKS: dict[Dataflow, tuple[int, ...]] = {"os": (1, 2, 4), "ws": (1, 2, 3)}
"""Products that a DSP slice may compute."""

LONGEST_CHAIN = 4
"""Products that are added one after the other, a cycle each: longer chains save little and react later."""

MOST_WEIGHT_BITS = 8
"""Widest fixed weights."""


class Band(Model):
    """Consecutive rows of the array whose processing elements hold one weight format.

    Attributes:
        scheme: `fixed` (multipliers), `pot` (shifts), `apot` or `sp2` (sums of two shifts), `ternary` or
            `binary` (signs).
        weight_bits: 2 to 8 for fixed, 3 to 5 for pot, 4 or 5 for apot; 4 for sp2, 2 for ternary and 1 for binary,
            where the key may be left out.
        rows: filters this band computes at a time.
        multiplier: `dsp` or `lut`, what the products of a fixed band are built of; others have none.
        pack: products per DSP slice. Output stationary: 1, 2 (a weight by two columns' codes) or 4 (two rows' weights
            as well); weight stationary: 1, or 2 or 3 rows' weights by one code.
        pairs: whether two neighbouring rows of a fixed band may hold a filter of twice the bits, in two's complement:
            the first one its low half, the second one its high half, which are put together behind the array.
        crumbs: whether the elements of a fixed band in LUTs have two weights for every place of a group, one for each
            half of its code, so that a row holds a whole filter even where the halves are codes of their own
            (`Hardware.act_modes`); rows of other bands then hold half of one.
    """

    scheme: Annotated[Scheme, choice(*WEIGHT_BITS)]
    weight_bits: Annotated[int, integer(1, 8)]
    rows: Annotated[int, integer(1, 1024)]
    multiplier: Annotated[Literal["dsp", "lut"], choice("dsp", "lut")] | None = None
    pack: Annotated[int, choice(1, 2, 3, 4)] = 1
    pairs: bool = False
    crumbs: bool = False

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        scheme = data.get("scheme")
        if scheme == Scheme.FIXED:
            return {"multiplier": "dsp"} | data
        only = [low for kind, (low, high) in WEIGHT_BITS.items() if kind == scheme and low == high]
        return {"weight_bits": only[0]} | data if only else data

    @model_validator(mode="after")
    def _check(self) -> Band:
        low, high = WEIGHT_BITS[self.scheme]
        if not low <= self.weight_bits <= high:
            allowed = f"{low} to {high}" if low < high else f"{low}"
            reason = f"; {NO_WIDER[self.scheme]}" if self.weight_bits > high and self.scheme in NO_WIDER else ""
            raise rejected(f"weight_bits {self.weight_bits} given, must be {allowed} for scheme {self.scheme}{reason}")
        if self.scheme is not Scheme.FIXED and self.multiplier is not None:
            does = "adds" if self.scheme in (Scheme.TERNARY, Scheme.BINARY) else "shifts"
            raise rejected(
                f"multiplier '{self.multiplier}' given, but a {self.scheme} band {does} and has none: remove the key"
            )
        if self.scheme is Scheme.FIXED and self.multiplier is None:
            raise rejected("multiplier: nothing given, must be dsp or lut")
        if self.pack > 1 and self.multiplier != "dsp":
            raise rejected(f"pack {self.pack} given, only a fixed band with 'multiplier: dsp' packs products")
        if self.crumbs and self.multiplier != "lut":
            kind = f"multiplier {self.multiplier}" if self.multiplier else f"scheme {self.scheme}"
            raise rejected(
                f"crumbs: true given for {kind}, must be left out: only fixed bands with 'multiplier: lut' have "
                "elements with two weights for a place"
            )
        if self.pairs:
            self._check_pairs()
        return self

    def _check_pairs(self) -> None:
        if self.scheme is not Scheme.FIXED:
            raise rejected(
                f"pairs: true given for scheme {self.scheme}, must be left out: only fixed weights have halves"
            )
        if 2 * self.weight_bits > MOST_WEIGHT_BITS:
            raise rejected(
                f"pairs: true given, must be left out with weight_bits {self.weight_bits}: no weights have "
                f"{2 * self.weight_bits} bits"
            )
        if self.rows % 2:
            raise rejected(f"rows: {self.rows} given, must be even with 'pairs: true'")

    @property
    def uses_dsp(self) -> bool:
        """Whether the products are computed in DSP slices."""
        return self.multiplier == "dsp"

    def largest_product(self, act_bits: int) -> int:
        """Largest magnitude of a fixed weight times an activation code; halves of weights reach one more."""
        return ((1 << (self.weight_bits - 1)) - (not self.pairs)) * ((1 << act_bits) - 1)

    def height(self, dataflow: Dataflow) -> int:
        """Rows whose weights share a DSP slice."""
        return self.pack if dataflow == "ws" else max(1, self.pack // 2)

    def cascade_limit(self, act_bits: int, dataflow: Dataflow = "os", port: int = 25) -> int:
        """DSP slices whose products a field can sum, at most `LONGEST_CHAIN`; 0 when a slice cannot hold `pack`.

        The fields of a packed product are as wide as the operand ports allow: `port` (`codesign.arch.devices`) and 18
        bits signed, 48-bit sums. Output stationary: two codes p bits apart and, with pack 4, two weights 2p bits
        apart; weight stationary: one code, and weights p bits apart.
        """
        if dataflow == "ws":
            field = min((port - self.weight_bits) // (self.pack - 1), 48 // self.pack)
        elif self.pack == 4:
            field = min((port - self.weight_bits) // 2, 17 - act_bits, 12)
        else:
            field = min(port - 1 - act_bits, 24)
        if field < act_bits:
            return 0
        return min(LONGEST_CHAIN, ((1 << (field - 1)) - 1) // self.largest_product(act_bits))

    @property
    def weight_range(self) -> tuple[int, int]:
        """Smallest and largest weight that the band's multipliers compute with."""
        half = 1 << (self.weight_bits - 1)
        match self.scheme:
            case Scheme.FIXED:
                return -half, half - (not self.pairs)
            case Scheme.POT:
                largest = 1 << (half - 2)
            case scheme if scheme in TWO_TERM_SCHEMES:
                largest = sum(max(powers) for powers in TWO_TERMS[scheme, self.weight_bits])
            case _:
                largest = 1
        return -largest, largest

    @property
    def product_magnitude_bits(self) -> int:
        """Bits that one weight adds to the magnitude of an activation."""
        return (-self.weight_range[0] - 1).bit_length()

    def __str__(self) -> str:
        """Such as `fixed-w4 x 7 (dsp)`."""
        more = f"{', pairs' if self.pairs else ''}{', crumbs' if self.crumbs else ''}"
        built = f" ({self.multiplier}{more})" if self.multiplier else ""
        return f"{self.scheme}-w{self.weight_bits} x {self.rows}{built}"
