"""Cosimulation: whole networks on the generated RTL, compared with the integer model and the timing model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from codesign._files import scratch_folder
from codesign._processes import Processes, worker_count
from codesign.arch.hardware import Hardware
from codesign.integer.network import IntegerNetwork
from codesign.program import Program, compile_network
from codesign.program.packing import unpack_words
from codesign.program.traffic import bytes_moved
from codesign.rtl.geometry import Geometry
from codesign.rtl.layout import Op
from codesign.sim import functional
from codesign.sim.cosim import icarus, waves
from codesign.sim.cosim.bench import BENCH, MEMORY_BYTES, PUBLIC, SCRAMBLE, Pulse, recorded, scrambled, sources
from codesign.sim.cosim.twins import Twinned, twinned
from codesign.sim.cosim.verilator import build, run
from codesign.sim.cosim.wave_request import WaveRequest
from codesign.sim.timing.plan_timing import Timing, estimate, fastest

Progress = Callable[[str, int, int], None]
"""Called with (phase, done, total)."""
Simulator = Literal["verilator", "scrambled", "icarus"]
"""Verilator, as fast as it can; Verilator with random bits in all registers and memories to begin with, whatever their
initial values are; Icarus, which has four states and shows unknown bits on outputs, but is a hundred times slower."""
OUTPUTS = ("counters.txt", "maps.hex", "results.hex")
"""What a simulation writes, a piece for each image."""
SIMULATOR_BYTES = 1 << 28
"""Memory of a simulation besides the memory that it models, with room to spare."""
Elements = Literal["rtl", "twins"]
"""Processing elements as they are generated, or behavioural twins in their places (`codesign.sim.cosim.twins`)."""


@dataclass(frozen=True)
class LayerComparison:
    """One layer over all images.

    Attributes:
        rtl_end, model_end: `counter_total` at the layer's end in the first start, of RTL and timing model; of several
            images from one start, in the last of them.
        mismatched_values, compared_values: output codes that differ, and how many there are; none of a convolution
            that writes maxima of its results only: these are the pooling's, which ends with it.
    """

    name: str
    rtl_end: int
    model_end: int
    mismatched_values: int
    compared_values: int


@dataclass(frozen=True)
class CosimResult:
    """What the RTL did, beside what the models say.

    Attributes:
        rtl_cycles, model_cycles: cycles of one start; every one takes the same.
        counter_differences: counters (name, RTL, model) that differ in any start.
        outputs: (images, classes) int32 results of the RTL; of a network that ends in a map its codes (images, C*H*W).
        sim_cycles_per_s: simulated cycles per second of the simulator's run.
        build_s, wall_s: seconds to build (0 from cache) and to simulate, some images beside others.
        recording: the waves that were written; None if they were not asked for, or the run ended before their window.
        twins: modules whose behavioural twins ran; all others, or without any all, are what is generated.
    """

    rtl_cycles: int
    model_cycles: int
    mismatched_values: int
    compared_values: int
    counter_differences: tuple[tuple[str, int, int], ...]
    layers: tuple[LayerComparison, ...]
    outputs: NDArray[np.int64]
    images: int
    sim_cycles_per_s: float
    build_s: float
    wall_s: float
    timing: Timing
    recording: waves.Recording | None = None
    twins: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether nothing differs: no value, no cycle, no counter."""
        return self.mismatched_values == 0 and self.rtl_cycles == self.model_cycles and not self.counter_differences


def simulate_rtl(hw: Hardware, memory_bytes: int = MEMORY_BYTES) -> Path:
    """Build (or find) the simulation of `hw` in Verilator; its folder."""
    return build(sources(hw, memory_bytes), BENCH, PUBLIC)


def run_network(
    hw: Hardware,
    network: IntegerNetwork,
    images: NDArray[np.int64],
    progress: Progress | None = None,
    pulses: Sequence[Pulse] = (),
    simulator: Simulator = "verilator",
    seed: int = 0,
    recording: WaveRequest | None = None,
    elements: Elements = "rtl",
    batch: int = 1,
) -> CosimResult:
    """Run `images` (N, C, H, W; input codes) through the RTL of `hw` and compare everything.

    From one start `batch` images are computed, and N is a multiple of that.
    Before start i there is a run that `pulses[i]` ends, if there are so many. `seed` is that of the scrambled bits.
    Of the first start's run the waves of `recording` are written, whether or not the comparison finds a difference.
    With `elements` "twins" a run is some three times faster, but not of the processing elements that are generated; it
    goes neither with another simulator nor with waves.

    Raises:
        UserError: the network does not fit the hardware, a tool is missing, or no such waves can be written.
        RuntimeError: a run did not end as it should.
    """
    if elements == "twins" and (simulator != "verilator" or recording):
        raise ValueError("twins run in Verilator, from defined states, and without waves")
    if len(images) % batch:
        raise ValueError(f"{len(images)} images in starts of {batch} each")
    program = compile_network(network, hw, batch, fastest)
    timing = estimate(program)
    window = waves.window(recording.what, program, timing) if recording else None
    report = progress or (lambda phase, done, total: None)
    report("build", 0, 1)
    began = time.perf_counter()
    memory_bytes = 1 << (program.memory_bytes - 1).bit_length()
    if simulator != "icarus":  # which takes its time to make a large memory
        memory_bytes = max(MEMORY_BYTES, memory_bytes)
    files = sources(hw, memory_bytes)
    flags: tuple[str, ...] = ()
    plusargs: list[str] = []
    if simulator == "scrambled":
        files, flags = scrambled(files), SCRAMBLE
        plusargs = ["+verilator+rand+reset+2", f"+verilator+seed+{seed + 1}"]
    if recording:
        files = waves.traced(files, hw)
    replaced = Twinned(files, {}, ())
    if elements == "twins":
        replaced = twinned(files, hw)
    if simulator == "icarus":
        folder = icarus.build(files, BENCH)
    elif recording:
        folder = waves.build(files, recording.file, flags)
    else:
        folder = build(replaced.verilog, BENCH, PUBLIC, flags, called=replaced.c)
    build_s = time.perf_counter() - began
    report("build", 1, 1)

    with scratch_folder() as work:
        began = time.perf_counter()
        alone = simulator == "icarus" or recording is not None
        if alone:
            write_inputs(program, images, timing.total_cycles, work, pulses)
            plusargs.append(f"+folder={work}")
        if recording and window:
            written = work / f"waves{recording.file.suffix}"
            plusargs += waves.plusargs(window, written)
        if simulator == "icarus":
            if recording and recording.file.suffix == ".fst":
                plusargs.append("-fst")
            speed = icarus.run(folder, BENCH, work, plusargs) / (time.perf_counter() - began)
        elif recording:
            report("simulate", 0, len(images) // batch)
            speed = waves.run(folder, work, plusargs) / (time.perf_counter() - began)
            report("simulate", len(images) // batch, len(images) // batch)
        else:
            # two starts or more in each part, so that one comes behind another
            most, _ = worker_count(None, SIMULATOR_BYTES + memory_bytes)
            starts = images.reshape(-1, batch, *images.shape[1:])
            parts = [work / str(number) for number in range(1 if pulses else max(1, min(most, len(starts) // 2)))]
            for part, some in zip(parts, np.array_split(starts, len(parts)), strict=True):
                part.mkdir()
                write_inputs(program, some.reshape(-1, *images.shape[1:]), timing.total_cycles, part, pulses)
            speed = _run_parts(folder, parts, len(starts), plusargs, report)
            for name in OUTPUTS:
                (work / name).write_text("".join((part / name).read_text() for part in parts))
        wall_s = time.perf_counter() - began
        kept = waves.keep(written, window, recording, hw) if recording and window else None
        stopped = [line for line in (work / "results.hex").read_text().splitlines() if line.startswith("stopped")]
        if stopped:
            seen = f"; waves up to then: {kept.file}" if kept else ""
            raise RuntimeError(f"simulation of '{hw.name}' {stopped[0]}{seen}")
        result = replace(_compare(program, timing, images, work), sim_cycles_per_s=speed, build_s=build_s)
        return replace(result, wall_s=wall_s, recording=kept, twins=replaced.modules)


def hex_lines(data: NDArray[np.uint8], beat_bytes: int) -> str:
    """Beats as hexadecimal lines, most significant byte first."""
    text = data.reshape(-1, beat_bytes)[:, ::-1].tobytes().hex()
    width = 2 * beat_bytes
    return "".join(f"{text[i : i + width]}\n" for i in range(0, len(text), width))


def image_beats(program: Program) -> list[tuple[int, int]]:
    """Where the pieces of the images of a start lie in the memory, and how many beats each has."""
    pieces = program.encode_input(np.zeros(program.network.input.shape, dtype=np.int64)) * program.images
    beat = program.geometry.beat_bytes
    return [(piece.beat, part.size // beat) for piece, part in zip(program.pieces, pieces, strict=True)]


def write_inputs(
    program: Program, images: NDArray[np.int64], cycles: int, work: Path, pulses: Sequence[Pulse] = ()
) -> None:
    """What the bench reads from the folder `work`: program, images, plan; `cycles` is what a start should take."""
    geometry = program.geometry
    (work / "program.hex").write_text(hex_lines(program.stream, geometry.beat_bytes))
    encoded = np.concatenate([part for image in images for part in program.encode_input(image)])
    (work / "inputs.hex").write_text(hex_lines(encoded, geometry.beat_bytes))
    executed = [plan for plan in program.steps if plan.op not in (Op.LOAD, Op.FENCE)]
    lines = [
        f"{2 * cycles + 10_000} {len(images) // program.images} {program.address} {program.bursts} "
        f"{len(program.pieces)} {program.output_address // 4} {program.images * program.result_words} "
        f"{len(executed)} {len(pulses)}"
    ]
    lines += [f"{beat} {beats}" for beat, beats in image_beats(program)]
    for plan in executed:
        place = plan.written
        lines.append(f"{place.memory} {place.base} {place.words}" if place is not None else "0 0 0")
    lines += [f"{pulse.after} {pulse.cycles} {int(pulse.deaf)}" for pulse in pulses]
    (work / "plan.txt").write_text("\n".join(lines) + "\n")


def _run_parts(folder: Path, parts: Sequence[Path], starts: int, plusargs: Sequence[str], report: Progress) -> float:
    """Run a simulation in several folders at once; cycles a second of all together."""

    def lines() -> list[list[str]]:
        """Of every folder: start, cycles and seconds up to its end."""
        files = (part / "progress.txt" for part in parts)
        return [file.read_text().split("\n")[:-1] if file.exists() else [] for file in files]

    with ThreadPoolExecutor(len(parts)) as pool, Processes() as beside:
        runs = [
            pool.submit(
                run, folder, BENCH, "codesign.sim.cosim.cocotb_bench", part, [*plusargs, f"+folder={part}"], beside
            )
            for part in parts
        ]
        waiting = set(runs)
        while waiting:
            done, waiting = wait(waiting, 0.5, FIRST_EXCEPTION)
            for each in done:
                each.result()
            report("simulate", min(sum(map(len, lines())), starts), starts)
    report("simulate", starts, starts)
    ends = [of_part[-1].split() for of_part in lines()]
    return sum(int(end[1]) for end in ends) / max(*(float(end[2]) for end in ends), 1e-9)


def _compare(program: Program, timing: Timing, images: NDArray[np.int64], work: Path) -> CosimResult:
    geometry, network = program.geometry, program.network
    names = recorded(program.hw)
    lines = (work / "counters.txt").read_text().split("\n")[:-1]
    counters = np.array([[int(value) for value in line.split()] for line in lines], dtype=np.int64)
    executed = [(i, plan) for i, plan in enumerate(program.steps) if plan.op not in (Op.LOAD, Op.FENCE)]
    starts = len(images) // program.images
    counters = counters.reshape(starts, len(executed) + 1, len(names))
    maps = _read_maps(work / "maps.hex", geometry)
    results = np.array((work / "results.hex").read_text().split(), dtype=object)
    words = np.array([int(word, 16) for word in results], dtype=np.int64).reshape(len(images), -1)

    mismatched = dict.fromkeys((layer.name for layer in network.layers), 0)
    compared = dict(mismatched)
    writer = {layer.output.name: layer.name for layer in network.layers}
    computed_in = program.computed_in
    position = 0
    for start in range(starts):
        first = start * program.images
        expected = [functional.run(network, image) for image in images[first : first + program.images]]
        for _, plan in executed:
            if plan.op == Op.STORE and plan.layer != computed_in[-1]:
                continue  # what comes back is seen in the layers that read it
            place = plan.written
            name = network.output.name if place is None else place.tensor.name
            mine = slice(plan.image, plan.image + plan.together)  # as pixels of one map
            each = [found[name][:, plan.rows[0] : plan.rows[1]] for found in expected[mine]]
            want = np.concatenate(each, axis=2)
            if place is None:
                of_images = words[first : first + program.images][mine]
                got = np.concatenate([program.decode_results(part) for part in of_images], axis=2)
            else:
                got = unpack_words(maps[position : position + place.words], want.shape, place.tensor.bits, geometry)
                position += place.words
            mismatched[writer[name]] += int(np.count_nonzero(got != want))
            compared[writer[name]] += want.size

    model = [*timing.counters.values(), *bytes_moved(program).values(), *timing.band_busy]
    differences = {
        (name, int(counters[index, -1, i]), model[i])
        for i, name in enumerate(names)
        for index in range(starts)
        if counters[index, -1, i] != model[i]
    }
    last_step = {plan.layer: row for row, (_, plan) in enumerate(executed)}
    layers = tuple(
        LayerComparison(
            name=layer.name,
            rtl_end=int(counters[0, last_step[computed_in[i]], 0]),
            model_end=timing.step_ends[executed[last_step[computed_in[i]]][0]] - 1,
            mismatched_values=mismatched[layer.name],
            compared_values=compared[layer.name],
        )
        for i, layer in enumerate(network.layers)
    )
    differences |= {
        (f"step {number}: end", int(counters[0, row, 0]), timing.step_ends[number] - 1)
        for row, (number, _) in enumerate(executed)
        if counters[0, row, 0] != timing.step_ends[number] - 1
    }
    return CosimResult(
        rtl_cycles=int(counters[:, -1, 0].max()),
        model_cycles=timing.total_cycles,
        mismatched_values=sum(mismatched.values()),
        compared_values=sum(compared.values()),
        counter_differences=tuple(sorted(differences)),
        layers=layers,
        outputs=np.stack([program.decode_results(part).reshape(-1) for part in words]),
        images=len(images),
        sim_cycles_per_s=0,
        build_s=0,
        wall_s=0,
        timing=timing,
    )


def _read_maps(path: Path, geometry: Geometry) -> NDArray[np.int64]:
    """Stored groups, shape (words, groups): physical group g of every dumped word."""
    text = path.read_text().split()
    if not text:  # a network of one layer stores no map
        return np.zeros((0, geometry.groups), dtype=np.int64)
    width = geometry.groups * geometry.group_bits
    digits = -(-width // 4)
    packed = np.frombuffer(bytes.fromhex("".join(line.zfill(digits + digits % 2) for line in text)), dtype=np.uint8)
    bits = np.unpackbits(packed.reshape(len(text), -1)[:, ::-1], axis=1, bitorder="little")[:, :width]
    weights = 1 << np.arange(geometry.group_bits, dtype=np.int64)
    groups: NDArray[np.int64] = bits.reshape(len(text), geometry.groups, geometry.group_bits) @ weights
    return groups
