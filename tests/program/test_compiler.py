"""The compiler: filters dealt to bands, limits named, the stream complete."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.arch.band import Band
from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.arch.scheme import Scheme
from codesign.errors import UserError
from codesign.formats.row_format import FIXED4, FIXED8, POT4, RowFormat
from codesign.integer.network import IntegerConv, IntegerNetwork, IntegerTensor
from codesign.program import compile_network
from codesign.program.dealing import deal_filters, row_of, rows_of
from codesign.program.packing import pack_map
from codesign.program.traffic import traffic
from codesign.rtl.layout import DESCRIPTOR, Op
from tests.sim.strategies import networks, random_conv, random_pool

TINY = load_hardware("tiny")
FORMATS = [(Scheme.POT, 4), (Scheme.FIXED, 4), (Scheme.FIXED, 8)]


def small_network(channels: int = 5, filters: int = 11, kernel: int = 3, bits: int = 4) -> IntegerNetwork:
    rng = np.random.default_rng(0)
    source = IntegerTensor("input", channels, 6, 6, bits, 0, 1.0)
    pad = (kernel // 2,) * 4
    conv = random_conv(rng, "conv", source, filters, (kernel, kernel), (1, 1), pad, 1, FORMATS, bits)
    pool = random_pool(rng, "pool", conv.output, "avg", (6, 6), (1, 1), (0, 0, 0, 0))
    fc = random_conv(rng, "fc", pool.output, 4, (1, 1), (1, 1), (0, 0, 0, 0), 1, FORMATS, 32)
    return IntegerNetwork("small", source, (conv, pool, fc))


def two_convolutions() -> IntegerNetwork:
    """The second one's taps cannot be folded into channels by the host."""
    rng = np.random.default_rng(0)
    small = small_network(kernel=1)
    second = random_conv(rng, "second", conv_of(small).output, 3, (3, 3), (1, 1), (1, 1, 1, 1), 1, FORMATS, 4)
    pool = random_pool(rng, "pool", second.output, "avg", (6, 6), (1, 1), (0, 0, 0, 0))
    fc = random_conv(rng, "fc", pool.output, 4, (1, 1), (1, 1), (0, 0, 0, 0), 1, FORMATS, 32)
    return IntegerNetwork("two", small.input, (small.layers[0], second, pool, fc))


def conv_of(network: IntegerNetwork) -> IntegerConv:
    layer = network.layers[0]
    assert isinstance(layer, IntegerConv)
    return layer


@given(st.data())
def test_every_filter_is_dealt_once_to_a_band_that_holds_it(data: st.DataObject) -> None:
    network = data.draw(networks(TINY, max_channels=30, max_side=4))
    for layer in network.layers:
        if not isinstance(layer, IntegerConv):
            continue
        dealt = deal_filters(layer.name, rows_of(layer), TINY.bands)
        assert sorted(f for filters in dealt for f in filters) == list(range(layer.weight.shape[0]))
        for band, filters in zip(TINY.bands, dealt, strict=True):
            for f in filters:
                if band.scheme is Scheme.POT:
                    assert layer.scheme[f] is Scheme.POT
                else:
                    assert np.abs(layer.weight[f]).max() < 1 << (band.weight_bits - 1)


def test_a_homogeneous_layer_uses_every_band_that_can_hold_it() -> None:
    conv = conv_of(small_network(filters=12))
    weight = np.sign(conv.weight)  # +-1 and 0 fit everywhere
    conv = replace(conv, weight=weight, scheme=(Scheme.FIXED,) * 12, weight_bits=(4,) * 12)
    dealt = deal_filters(conv.name, rows_of(conv), TINY.bands)
    assert [len(filters) for filters in dealt] == [0, 8, 4]  # two rows of fixed4, one of fixed8: four passes


def test_the_stream_starts_with_the_input_and_ends_with_end() -> None:
    program = compile_network(small_network(), TINY)
    geometry = program.geometry
    beat = geometry.beat_bytes
    first = program.stream[: geometry.descriptor_beats * beat].tobytes()
    assert DESCRIPTOR.unpack(int.from_bytes(first, "little"))["op"] == Op.LOAD
    assert program.pieces[0].beat == geometry.descriptor_beats
    used = sum(step.beats for step in program.steps)
    end = program.stream[used * beat : (used + geometry.descriptor_beats) * beat].tobytes()
    assert DESCRIPTOR.unpack(int.from_bytes(end, "little"))["op"] == Op.END
    assert program.stream.size % (TINY.memory.burst_beats * beat) == 0


def test_the_same_network_gives_the_same_bytes() -> None:
    one, two = (compile_network(small_network(), TINY) for _ in range(2))
    assert np.array_equal(one.stream, two.stream)


def variant(**changes: object) -> Hardware:
    return Hardware.model_validate(TINY.model_dump() | changes)


@pytest.mark.parametrize(
    ("network", "hw", "message"),
    [
        (
            two_convolutions(),
            variant(buffers={"activation_words": 4096, "weight_words": 16}),
            r"^second: 8 channels of a filter take 36 weight words of 2, a row's ring holds 16; .* to 64$",
        ),
        (small_network(bits=5), TINY, r"^input: 5-bit .*, 'tiny' has act_bits: 4; give it 'act_modes: \[4, 8\]'$"),
        (
            small_network(),
            variant(buffers={"activation_words": 16, "weight_words": 512}),
            r"^conv: input rows 0 to \d+ .* takes \d+ words, an activation memory has 16; .* \d+$",
        ),
        (small_network(), variant(acc_bits=12), r"^conv: accumulators .* need \d+ bits, 'tiny' has 1[23]; .* acc_bits"),
        (
            small_network(),
            variant(bands=({"scheme": "pot", "weight_bits": 4, "rows": 3},)),
            r"^conv: filter \d+ has fixed[48] weights, the bands hold pot4; add a band",
        ),
    ],
)
def test_what_does_not_fit_says_by_how_much(network: IntegerNetwork, hw: Hardware, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        compile_network(network, hw)
    assert "\n" not in str(caught.value)


def test_a_map_of_int32_results_is_refused_and_one_of_codes_leaves() -> None:
    network = small_network()
    conv = network.layers[0]
    assert isinstance(conv, IntegerConv)
    wide = replace(conv, output=replace(conv.output, bits=32, zero_point=0), low=-(2**31), high=2**31 - 1)
    with pytest.raises(UserError, match=r"^conv: int32 results must be those of a fully connected layer, .* to 4 bits"):
        compile_network(replace(network, layers=(wide,)), TINY)
    program = compile_network(replace(network, layers=network.layers[:1]), TINY)
    output = program.network.output
    assert program.steps[-1].op == Op.STORE and traffic(program)[-1].outputs * 8 >= np.prod(output.shape) * output.bits
    codes = np.random.default_rng(0).integers(0, 2**output.bits, output.shape)
    words = pack_map(codes, program.geometry.act_bits, program.geometry).view("<u4").astype(np.int64)
    assert len(words) == program.result_words
    assert np.array_equal(program.decode_results(words), codes)


def test_sides_that_a_descriptor_cannot_hold_are_named() -> None:
    rng = np.random.default_rng(0)
    source = IntegerTensor("input", 1, 1, 300, 4, 0, 1.0)
    first = random_conv(rng, "first", source, 2, (1, 1), (1, 1), (0, 0, 0, 0), 1, FORMATS, 4)
    wide = random_conv(rng, "wide", first.output, 2, (1, 256), (1, 1), (0, 0, 0, 0), 1, FORMATS, 4)
    far = random_conv(rng, "far", first.output, 2, (1, 1), (1, 70), (0, 0, 0, 0), 1, FORMATS, 4)
    for layer, message in ((wide, "wide: kernel 1x256, .* 255"), (far, "far: stride 1x70, .* 63")):
        last = random_conv(rng, "fc", layer.output, 3, (1, layer.output.width), (1, 1), (0, 0, 0, 0), 1, FORMATS, 32)
        with pytest.raises(UserError, match=message):
            compile_network(IntegerNetwork("sides", source, (first, layer, last)), TINY)


def test_bands_are_typed_by_scheme_and_bits() -> None:
    band = Band(scheme=Scheme.POT, weight_bits=3, rows=1)
    conv = conv_of(small_network())
    with pytest.raises(UserError, match="pot3"):
        deal_filters(conv.name, rows_of(conv), (band,))


def one_format(text: str, channels: int = 9) -> IntegerConv:
    """The small network's convolution with all its filters in one format."""
    form = RowFormat.parse(text)
    conv = conv_of(small_network(channels=channels))
    weight = np.random.default_rng(0).choice(form.levels(), conv.weight.shape)
    filters = len(weight)
    return replace(conv, weight=weight, scheme=(form.scheme,) * filters, weight_bits=(form.bits,) * filters)


@pytest.mark.parametrize(
    ("text", "bands", "used"),
    [
        ("apot4", ("apot4", "apot5", "fixed4"), {0}),  # its 8 and 10 are no levels of apot5, nor of fixed4
        ("apot4", ("apot4", "fixed5"), {0, 1}),
        ("sp2", ("apot4", "sp2", "fixed5", "fixed4"), {1, 2}),  # 8 is no integer of fixed4
        ("ternary", ("ternary", "binary", "pot4"), {0}),
        ("binary", ("binary",), {0}),
        ("binary", ("pot3", "ternary", "binary"), {1, 2}),
        ("fixed2", ("ternary", "apot4", "fixed2"), {2}),
    ],
)
def test_bands_hold_rows_of_their_own_formats(text: str, bands: tuple[str, ...], used: set[int]) -> None:
    forms = [RowFormat.parse(band) for band in bands]
    conv = one_format(text)
    dealt = deal_filters(
        "conv", rows_of(conv), [Band(scheme=form.scheme, weight_bits=form.bits, rows=1) for form in forms]
    )
    assert {index for index, filters in enumerate(dealt) if filters} == used


def test_binary_rows_need_channels_that_fill_words() -> None:
    binary, ternary = (
        Band(scheme=Scheme.BINARY, weight_bits=1, rows=4),
        Band(scheme=Scheme.TERNARY, weight_bits=2, rows=1),
    )
    conv = one_format("binary")
    dealt = deal_filters(conv.name, rows_of(conv), (binary, ternary), whole_words=False)
    assert dealt[0] == [] and len(dealt[1]) == len(conv.weight)
    with pytest.raises(
        UserError, match=r"hold binary1 \(binary has no zero.*add a band \{scheme: ternary, weight_bits: 2"
    ):
        deal_filters(conv.name, rows_of(conv), (binary,), whole_words=False)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("apot5", r"add a band \{scheme: apot, weight_bits: 5, rows: 1\}"),
        ("sp24", r"add a band \{scheme: sp2, weight_bits: 4, rows: 1\}"),
        ("midrise3", r"add a band \{scheme: fixed, weight_bits: 4, rows: 1\}"),
        ("pot6", "no band is as wide: quantize it to pot5 or narrower"),
        ("full8", "no band is as wide: quantize it to fixed8 or narrower"),
    ],
)
def test_what_no_band_holds_says_what_would(text: str, remedy: str) -> None:
    with pytest.raises(UserError, match=f"conv: filter 0 has {text} weights, the bands hold pot3; {remedy}"):
        deal_filters("conv", rows_of(one_format(text)), (Band(scheme=Scheme.POT, weight_bits=3, rows=1),))


def test_filters_that_one_row_holds_take_pairs_only_where_that_saves_passes() -> None:
    """RMSMP's mix on a band of pairs beside one of 8 bits takes as many passes as without pairs."""
    plain = (
        Band(scheme=Scheme.FIXED, weight_bits=4, rows=10),
        Band(scheme=Scheme.FIXED, weight_bits=8, rows=1),
        Band(scheme=Scheme.POT, weight_bits=4, rows=21),
    )
    paired = (plain[0].model_copy(update={"pairs": True}), *plain[1:])
    mix = [row_of(form) for form, count in ((FIXED4, 20), (FIXED8, 2), (POT4, 42)) for _ in range(count)]
    assert deal_filters("layer", mix, paired) == [*deal_filters("layer", mix, plain), []]
    wide = [row_of(FIXED8)] * 60  # ten passes with pairs of rows as well, 60 without
    assert list(map(len, deal_filters("layer", wide, paired))) == [0, 10, 0, 50]


def test_pairs_are_proposed_where_they_would_hold_the_filter() -> None:
    """What is proposed is a valid accelerator, and the filter fits it."""
    hw = load_hardware("xc7z020_fixed")
    layer = rows_of(one_format("fixed8"))
    with pytest.raises(UserError, match=r"filter 0 has fixed8 weights.*; give bands\[0\] 'pairs: true'"):
        deal_filters("conv", layer, hw.bands, hw=hw)
    changed = hw.model_dump(mode="json")
    changed["bands"][0]["pairs"] = True
    paired = Hardware.model_validate(changed)
    assert deal_filters("conv", layer, paired.bands, hw=paired)
    for other in ("xc7z020_ws", "xc7z020_pot"):  # weight stationary; no band with halves
        hw = load_hardware(other)
        bands = [band for band in hw.bands if band.weight_bits < 8]
        with pytest.raises(UserError, match="add a band"):
            deal_filters("conv", layer, bands, hw=hw)
