"""The table of cycles by bits: every entry is that of the whole network's plan, and what cannot run says why."""

from __future__ import annotations

import pytest

from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.row_format import FIXED4, FIXED8, POT4, RowFormat
from codesign.integer.layer_bits import assignment_of_bits
from codesign.program import Planner
from codesign.program.dealing import row_of
from codesign.sim.timing.bits_table import BitsTimer, Choice, choices_of
from codesign.sim.timing.network_timer import network_shape
from codesign.sim.timing.plan_timing import Timing, estimate
from codesign.workload import zoo
from codesign.workload.network import Network


def precise(words: int = 1024) -> Hardware:
    """Codes of 4 and 8 bits, pairs of rows, and a band of PoT rows."""
    data = load_hardware("tiny").model_dump(mode="json")
    bands = [
        {"scheme": "fixed", "weight_bits": 4, "rows": 4, "pairs": True},
        {"scheme": "pot", "weight_bits": 4, "rows": 2},
    ]
    buffers = data["buffers"] | {"activation_words": words}
    return Hardware.model_validate(
        data | {"name": "precise", "dot": 4, "act_bits": 4, "act_modes": [4, 8], "bands": bands, "buffers": buffers}
    )


def planned(network: Network, hw: Hardware, assignment: Assignment) -> Timing:
    shape = network_shape(network, assignment)
    return estimate(Planner(shape, hw).plan([[row_of(form) for form in assignment[conv.name]] for conv in shape.convs]))


def test_entries_are_layers_of_whole_networks() -> None:
    network, hw = zoo.get("resnet8"), precise(8192)
    timer = BitsTimer(network, hw)
    assert timer.choices == choices_of(hw)
    assert set(timer.choices) == {Choice(form, bits) for form in (FIXED4, FIXED8, POT4) for bits in (4, 8)}
    table = timer.table()
    assert table.base == Choice(FIXED4, 4)
    base = Assignment.uniform(network, FIXED4, 4)
    whole = planned(network, hw, base)
    assert table.additive(timer.chosen(base)) == whole.total_cycles
    assert [layer.name for layer in table.layers] == [layer.name for layer in whole.layers]
    numbers = {layer.name: number for number, layer in enumerate(table.layers)}
    for name, reads, choice in (
        ("conv1", "input", Choice(FIXED8, 8)),
        ("layer2.0.conv1", "layer1.0.conv2", Choice(POT4, 8)),
        ("fc", "avgpool", Choice(FIXED8, 4)),
    ):
        layer = table.layers[numbers[name]]
        assert layer.reads == reads
        rows = {each: base[each] for each in base.rows} | {name: (choice.rows,) * len(base[name])}
        changed = planned(network, hw, Assignment.of(rows, 4, {reads: choice.act_bits}))
        assert layer.entries[choice].cycles == changed.layers[numbers[name]].cycles
    pool = table.layers[numbers["avgpool"]]
    assert set(pool.entries) == {Choice(None, 4), Choice(None, 8)}
    mixed = assignment_of_bits(network, ((8, 8), *[(3, 4)] * 5, (8, 6), (8, 6), (4, 4), (4, 4)))
    chosen = timer.chosen(mixed)
    assert chosen["conv1"] == Choice(FIXED8, 8)
    assert chosen["layer1.0.conv1"] == Choice(FIXED4, 4)
    cycles = [layer.entries[chosen[layer.name]].cycles for layer in table.layers]
    assert table.additive(chosen) == table.ending + sum(cycles)  # type: ignore[arg-type]


def test_what_does_not_run_says_why() -> None:
    network, hw = zoo.get("smallcnn"), precise(32)
    table = BitsTimer(network, hw).table()
    failed = [entry for layer in table.layers for entry in layer.entries.values() if entry.cycles is None]
    assert failed
    assert all("set buffers.activation_words to" in str(entry.reason) for entry in failed)
    timer = BitsTimer(network, hw)
    at = timer.chosen(timer.uniform(timer.choices[-1]))
    assert table.additive(at) is None
    with pytest.raises(UserError, match=r"set buffers.activation_words to"):
        BitsTimer(network, precise(16)).table()


def test_choices_that_the_table_does_not_have_are_refused() -> None:
    network = zoo.get("smallcnn")
    timer = BitsTimer(network, precise())
    with pytest.raises(UserError, match=r"^conv1: pot5 rows, 'precise' has fixed4, fixed8, pot4$"):
        timer.chosen(Assignment.uniform(network, RowFormat.parse("pot5"), 4))
    mixed = Assignment.uniform(network, FIXED4, 4)
    rows = {name: mixed[name] for name in mixed.rows}
    rows["conv1"] = (FIXED8, *rows["conv1"][1:])
    with pytest.raises(UserError, match=r"^conv1: rows of several formats"):
        timer.chosen(Assignment.of(rows, 4))
