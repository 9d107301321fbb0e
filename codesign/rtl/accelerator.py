"""The accelerator: loader, executor, window generator, array, post-processing, pooling, memories and DMA."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, ResetSignal, Signal, Value
from amaranth.lib.wiring import Component, Out

from codesign.rtl.activation import ActivationMemory, WordAligner
from codesign.rtl.array.array import SystolicArray
from codesign.rtl.array.delay import Delay
from codesign.rtl.array.weight_stationary_array import DrainSequencer, WeightStationaryArray
from codesign.rtl.axi import (
    ADDRESS_BITS,
    CACHEABLE,
    INCR,
    axi4_lite_slave,
    axi4_master,
    bus,
    pass_on,
    prefixed,
)
from codesign.rtl.byte_counters import ByteCounters
from codesign.rtl.control import Control
from codesign.rtl.depthwise import DepthwiseUnit
from codesign.rtl.dma import ResultWriter, StreamReader
from codesign.rtl.executor import Executor
from codesign.rtl.geometry import Geometry
from codesign.rtl.lanes import memory_ports, names, of_port, some
from codesign.rtl.latencies import FEED_LATENCY, READ_LATENCY, WEIGHT_LATENCY
from codesign.rtl.layout import code_number
from codesign.rtl.loader import Loader
from codesign.rtl.modules import place
from codesign.rtl.of_layer import of_layer
from codesign.rtl.pooling import PoolingUnit
from codesign.rtl.postprocess import PostProcessor
from codesign.rtl.store import StoreUnit
from codesign.rtl.window import WindowGenerator


class Accelerator(Component):  # type: ignore[misc]  # Amaranth is not typed
    """Runs a program from memory, from one start until all its results are in memory again.

    Ports:
        s_axi_ctrl_*  AXI4-Lite slave: the registers of codesign.rtl.registers, which start runs and tell how they ended
        m_axi_*       AXI4 master: programs, images and results; with several ports m_axi_0_*, m_axi_1_* and so on
        interrupt     a run is over, or ended early, and the host wants to know
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        super().__init__(prefixed("s_axi_ctrl", axi4_lite_slave()) | memory_ports(geometry) | {"interrupt": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry = self.geometry
        ports = [bus(self, name, axi4_master(geometry.port_bits)) for name in names("m_axi", geometry)]
        m.submodules.control = place(control := Control(geometry))
        # what an aborted run leaves behind is wiped out while the memory ports come to rest, then they are
        abort, clear = control.abort, control.clear
        m.submodules.reader = place(reader := StreamReader(geometry), clear)
        m.submodules.loader = place(loader := Loader(geometry), abort)
        m.submodules.executor = place(executor := Executor(geometry), abort)
        m.submodules.window = place(window := WindowGenerator(geometry), abort)
        m.submodules.memory_0 = place(memory_0 := ActivationMemory(geometry))
        m.submodules.memory_1 = place(memory_1 := ActivationMemory(geometry))
        m.submodules.aligner = place(aligner := WordAligner(geometry), abort)
        stationary = geometry.weight_stationary
        array = WeightStationaryArray(geometry) if stationary else SystolicArray(geometry)
        m.submodules.array = place(array, abort)
        m.submodules.post = place(post := PostProcessor(geometry), abort)
        m.submodules.pooling = place(pooling := PoolingUnit(geometry), abort)
        m.submodules.writer = place(writer := ResultWriter(geometry), clear)
        d = executor.current

        # ---- memory port ---------------------------------------------------------------------------------------
        size = (geometry.port_bytes - 1).bit_length()
        m.d.comb += [
            reader.start.eq(control.go),
            reader.stop.eq(abort),
            reader.address.eq(control.program_address),
            reader.bursts.eq(control.program_bursts),
            reader.more.eq(loader.more),
            reader.more_bursts.eq(loader.more_bursts),
            writer.stop.eq(abort),
        ]
        for number, axi in enumerate(ports):
            read, write = of_port(reader, number, geometry), of_port(writer, number, geometry)
            m.d.comb += [
                axi.arvalid.eq(read("arvalid")),
                read("arready").eq(axi.arready),
                axi.araddr.eq(read("araddr")),
                axi.arlen.eq(read("arlen")),
                axi.arsize.eq(size),
                axi.arburst.eq(INCR),
                axi.arcache.eq(CACHEABLE),
                read("rvalid").eq(axi.rvalid),
                axi.rready.eq(read("rready")),
                read("rdata").eq(axi.rdata),
                read("rresp").eq(axi.rresp),
                read("rlast").eq(axi.rlast),
                axi.awvalid.eq(write("awvalid")),
                write("awready").eq(axi.awready),
                axi.awaddr.eq(write("awaddr")),
                axi.awlen.eq(0),
                axi.awsize.eq(size),
                axi.awburst.eq(INCR),
                axi.awcache.eq(CACHEABLE),
                axi.wvalid.eq(write("wvalid")),
                write("wready").eq(axi.wready),
                axi.wdata.eq(write("wdata")),
                axi.wstrb.eq(write("wstrb")),
                axi.wlast.eq(1),
                write("bvalid").eq(axi.bvalid),
                axi.bready.eq(write("bready")),
                write("bresp").eq(axi.bresp),
            ]

        # ---- control -------------------------------------------------------------------------------------------
        m.d.comb += [
            loader.start.eq(control.go),
            loader.beat.eq(reader.beat),
            loader.beat_valid.eq(reader.beat_valid),
            reader.beat_ready.eq(loader.beat_ready),
            loader.executor_idle.eq(executor.idle),
            loader.writer_idle.eq(writer.idle),
            executor.crowded.eq(writer.crowded),
            loader.descriptor_taken.eq(executor.descriptor_taken),
            loader.pass_done.eq(post.pass_done),
            executor.start.eq(control.go | ResetSignal()),  # which sets its counters to 0, too
            executor.descriptor.eq(loader.descriptor),
            executor.descriptor_valid.eq(loader.descriptor_valid),
            executor.pass_loaded.eq(loader.pass_loaded),
            executor.pass_done.eq(post.pass_done),
            executor.loading.eq(loader.loading),
            executor.loader_finished.eq(loader.finished),
            executor.reader_idle.eq(reader.idle),
            executor.writer_empty.eq(writer.empty),
            executor.writer_idle.eq(writer.idle),
            executor.window_end.eq(window.window_end),
            executor.pass_end.eq(window.pass_end),
        ]
        for source, target in zip(loader.headers, executor.headers, strict=True):
            m.d.comb += target.eq(source)
        members = axi4_lite_slave()
        pass_on(m, members, bus(self, "s_axi_ctrl", members), bus(control, "s_axi_ctrl", members))
        delay = Delay(m)
        asks = some([axi.arvalid & axi.arready for axi in ports])
        moves = [(axi.awvalid & axi.awready) | (axi.wvalid & axi.wready) | axi.rvalid | axi.bvalid for axi in ports]
        memory_active = delay.event(Cat(asks, *moves), 1, "memory_active").any()
        errors: list[Value] = [reader.response_error, reader.length_error, loader.error]
        if len(ports) > 1:  # those of all ports are a long way; the end of a run comes two cycles behind any of them
            kinds = "response", "length", "descriptor"
            errors = [delay.event(error, 1, f"{kind}_error") for error, kind in zip(errors, kinds, strict=True)]
        m.d.comb += [
            self.interrupt.eq(control.interrupt),
            control.finished.eq(executor.done),
            control.layer_done.eq(executor.layer_done),
            control.progress.eq(memory_active | delay.event(executor.advance, 1, "advanced")),
            control.memory_active.eq(memory_active),
            control.drained.eq(reader.drained & writer.idle),
            control.read_response.eq(errors[0]),
            control.read_length.eq(errors[1]),
            control.write_response.eq(writer.error),
            control.descriptor.eq(errors[2]),
        ]
        m.submodules.byte_counters = place(byte_counters := ByteCounters(geometry))
        m.d.comb += [
            byte_counters.start.eq(control.go),
            byte_counters.running.eq(executor.running),
            byte_counters.moved.eq(Cat(loader.moved, writer.moved)),
        ]
        for ours, theirs in (
            (control.counters, executor.counters),
            (control.byte_counters, byte_counters.counts),
            (control.band_busy, executor.band_busy),
        ):
            for target, source in zip(ours, theirs, strict=True):
                m.d.comb += target.eq(source)

        # ---- reading: window generator (tau + 1), memory (tau + 3), aligned word (tau + 4) ---------------------
        m.d.comb += [
            window.descriptor.eq(d),
            window.pooling.eq(executor.pooling),
            window.header.eq(executor.header),
            window.start.eq(executor.pass_start),
            window.advance.eq(executor.advance),
        ]
        if geometry.second_reader:
            m.submodules.second_aligner = place(second_aligner := WordAligner(geometry), abort)
            for g in range(geometry.groups):
                m.d.comb += [
                    second_aligner.data_0[g].eq(memory_0.second_data[g]),
                    second_aligner.data_1[g].eq(memory_1.second_data[g]),
                ]
            m.d.comb += [
                second_aligner.source.eq(d.source),
                second_aligner.key.eq(delay(window.second_key, READ_LATENCY - 3, "second_key")),
                second_aligner.pad.eq(delay(window.second_pad, READ_LATENCY - 3, "second_pad")),
                second_aligner.pad_code.eq(d.pad_code),
                array.second_word.eq(second_aligner.word[: geometry.word_bits // 2]),
                pooling.second_word.eq(second_aligner.word),
                array.second_load.eq(delay.event(window.second_column, READ_LATENCY - 1, "second_column")),
            ]
        modes = geometry.has_doubled
        # the mode of a layer; nothing of another one is under way while it runs
        doubled = of_layer(m, d.in_code == code_number(geometry.most_bits), "doubled") if modes else None
        narrow = of_layer(m, d.in_code == code_number(geometry.narrow_bits), "narrow") if geometry.narrow_bits else None
        step: Value = Mux(doubled, window.step >> 1, window.step) if modes else window.step
        if geometry.has_crumbs:
            step = Mux(narrow, window.step << 1, step)
        early = FEED_LATENCY - WEIGHT_LATENCY - 2  # cycles until the weight banks are asked
        pool_first = Signal(READ_LATENCY - 1)
        pool_last = Signal(READ_LATENCY - 1)
        storing = executor.storing
        store_line = Signal(READ_LATENCY - 1)
        store_begins = Signal()
        step_2 = Signal(geometry.weight_addr_bits, reset_less=True)
        first_2 = Signal()
        m.d.sync += [
            pool_first.eq((pool_first << 1) | (window.first & executor.pooling & ~storing)),
            pool_last.eq((pool_last << 1) | (window.last & executor.pooling & ~storing)),
            store_line.eq((store_line << 1) | (window.valid & storing)),
            store_begins.eq(executor.pass_start & storing),
            step_2.eq(executor.weight_base + step),
            first_2.eq(window.first & ~executor.pooling),
        ]
        for g in range(geometry.groups):
            m.d.comb += [
                memory_0.read_addr[g].eq(Mux(d.source, post.residual_addr[g], window.addr)),
                memory_1.read_addr[g].eq(Mux(d.source, window.addr, post.residual_addr[g])),
                aligner.data_0[g].eq(memory_0.read_data[g]),
                aligner.data_1[g].eq(memory_1.read_data[g]),
                post.residual_data[g].eq(Mux(d.source, memory_0.read_data[g], memory_1.read_data[g])),
            ]
        m.d.comb += [
            aligner.source.eq(d.source),
            aligner.key.eq(delay(window.key, READ_LATENCY - 3, "key")),
            aligner.pad.eq(delay(window.pad, READ_LATENCY - 3, "pad")),
            aligner.pad_code.eq(d.pad_code),
            array.word.eq(aligner.word),
            array.step_addr.eq(delay(step_2, early, "step")),
            array.write_group.eq(loader.weight_write_group),
            array.write_addr.eq(loader.weight_write_addr),
            array.write_data.eq(loader.weight_write_data),
        ]
        if modes:
            odd_2 = Signal(reset_less=True)  # the second half of a weight word
            m.d.sync += odd_2.eq(window.step[0])
            m.d.comb += array.step_odd.eq(delay(odd_2, early, "step_odd"))
            m.d.comb += [aligner.doubled.eq(doubled), array.doubled.eq(doubled), pooling.doubled.eq(doubled)]
            if geometry.second_reader:
                m.d.comb += second_aligner.doubled.eq(doubled)
        if narrow is not None:
            m.d.comb += [array.narrow.eq(narrow), pooling.narrow.eq(narrow)]
        if geometry.result_rows == 2:
            m.d.comb += array.twos.eq(d.twos)
        if geometry.pair_bits:
            pairs_2 = Signal.like(executor.header.pairs, name="pairs_2", reset_less=True)
            m.d.sync += pairs_2.eq(executor.header.pairs)
            m.d.comb += array.pairs.eq(delay(pairs_2, early, "pairs"))
        tile_last = Signal()
        tile_final = Signal()
        tile_ends: Value = window.last & ~executor.bare
        if geometry.hw.depthwise:  # its tiles are of windows
            tile_ends = tile_ends & (~executor.depthwise | window.tile_last)
        m.d.comb += [
            tile_last.eq(tile_ends),
            tile_final.eq(window.final & tile_last),
        ]
        if stationary:
            m.submodules.drain = place(drain := DrainSequencer(geometry), abort)
            valid_2 = Signal()
            tap_2 = Signal()
            m.d.sync += [valid_2.eq(window.valid & ~executor.pooling), tap_2.eq(window.tap)]
            whole = Mux(tile_final, d.last_block_tiles, d.block_tiles)
            m.d.comb += [
                drain.block.eq(tile_last),
                drain.final.eq(tile_final),
                drain.tiles.eq(Mux(executor.pooling, 1, whole)),
                array.step_valid.eq(delay.event(valid_2, early, "step_valid")),
                array.step_take.eq(delay.event(tap_2, early, "step_take")),
                array.step_open.eq(delay.event(first_2, early, "step_open")),
                array.drain.eq(drain.tile & ~executor.pooling),
                array.drain_first.eq(drain.tile_first),
                post.tile_last.eq(drain.tile),
                post.pass_last.eq(drain.tile_final),
                post.drain.eq(1),
                post.final.eq(1),
            ]
        else:
            last_2 = Signal()
            ends: list[Value] = [tile_last, tile_final]
            if geometry.hw.depthwise and geometry.depthwise_delay:
                late = [
                    delay.event(flag & executor.depthwise, geometry.depthwise_delay, name)
                    for flag, name in zip(ends, ("tile_late", "pass_late"), strict=True)
                ]
                ends = [(flag & ~executor.depthwise) | later for flag, later in zip(ends, late, strict=True)]
            m.d.sync += last_2.eq(window.last & ~executor.pooling)
            m.d.comb += [
                array.step_first.eq(delay.event(first_2, early, "step_first")),
                array.step_last.eq(delay.event(last_2, early, "step_last")),
                array.load.eq(delay.event(window.column, READ_LATENCY - 1, "column")),
                post.tile_last.eq(ends[0]),
                post.pass_last.eq(ends[1]),
                post.drain.eq(executor.header.drain),
                post.final.eq(executor.header.final),
            ]

        # ---- post-processing and pooling -----------------------------------------------------------------------
        averages = not geometry.unit_averages  # in the pooling unit
        results = Signal(ADDRESS_BITS, reset_less=True)  # addresses in a program count from its beginning
        m.d.sync += results.eq(control.program_address + d.out_addr)
        of_image: Value = results
        if geometry.hw.images:  # tile after tile, from where a walk over them begins
            skipped = Signal(ADDRESS_BITS, reset_less=True)
            of_image = Signal(ADDRESS_BITS, reset_less=True)
            m.d.sync += of_image.eq(results + skipped)
            with m.If(executor.pass_start & executor.header.begin):
                m.d.sync += skipped.eq(0)
            with m.Elif(post.next_image):
                m.d.sync += skipped.eq(skipped + (d.tile_stride << 2))
            m.d.comb += executor.results_crowded.eq(writer.results_crowded)
        m.d.comb += [
            post.descriptor.eq(d),
            *([post.averaging.eq(executor.averaging)] if averages else []),
            post.param_write_en.eq(loader.param_write_en),
            post.param_write_addr.eq(loader.param_write_addr),
            post.param_write_data.eq(loader.param_write_data),
            *([post.pooled.eq(pooling.pooled)] if averages else []),
            pooling.descriptor.eq(d),
            pooling.start.eq(executor.pass_start),
            *([pooling.averaging.eq(executor.averaging)] if averages else []),
            pooling.word.eq(aligner.word),
            pooling.first.eq(pool_first[-1]),
            pooling.last.eq(pool_last[-1] & ~executor.depthwise if geometry.hw.depthwise else pool_last[-1]),
            writer.valid.eq(post.wide_valid),
            writer.address.eq(of_image + (post.wide_channel << 2)),
            writer.data.eq(post.wide_data),
        ]
        if geometry.hw.depthwise:
            unit = self._depthwise(m, delay, executor, window, aligner.word, loader, abort)
            m.d.comb += post.depthwise.eq(executor.depthwise)
            if modes:
                m.d.comb += unit.doubled.eq(doubled)
            if geometry.taps_at_once == 2:
                m.d.comb += unit.second_word.eq(second_aligner.word)
            m.d.comb += [port.eq(sums) for port, sums in zip(post.of_channels, unit.results, strict=True)]
        for j in range(geometry.columns):
            m.d.comb += post.results[j].eq(array.results[j])
            if geometry.result_rows == 2:
                m.d.comb += post.second_results[j].eq(array.second_results[j])

        # ---- storing: words as they lie in memory (their keys are 0), beat by beat -------------------------------
        m.submodules.store = place(store := StoreUnit(geometry), abort)
        m.d.comb += [
            store.load.eq(store_line[-1]),
            store.word.eq(aligner.word),
            writer.store_start.eq(store_begins),
            writer.store_address.eq(results),
            writer.store_valid.eq(store.beat_valid),
            writer.store_data.eq(store.beat),
        ]

        # ---- writing: only one of loader, pooling unit and post-processing writes at a time --------------------
        # to each memory; an early load writes to the one that the step before it does not write to. While two readers
        # read, nobody writes to that memory, except loads, which wait until nothing runs then
        for index, memory in enumerate((memory_0, memory_1)):
            selected = Signal(name=f"selected_{index}")
            loads = Signal(name=f"loads_{index}")
            m.d.comb += [
                selected.eq(d.target == index),
                loads.eq(loader.load_valid & (loader.load_target == index)),
            ]
            second_reads: Value = Const(0, 1)
            if geometry.second_reader:  # nothing reads or writes between the last layer and this one
                second_reads = Signal(name=f"second_reads_{index}")
                m.d.sync += second_reads.eq((d.half | d.pairs) & (d.source == index))
            # one of four, by two bits that all groups have
            low, high = Signal(name=f"write_low_{index}"), Signal(name=f"write_high_{index}")
            m.d.comb += [low.eq(loads | (pooling.write & ~second_reads)), high.eq(loads | second_reads)]
            second_addr = window.second_addr if geometry.second_reader else Const(0)
            for g in range(geometry.groups):
                start = (g % geometry.groups_per_beat) * geometry.group_bits
                loaded = loader.load_data[start : start + geometry.group_bits]
                m.d.comb += [
                    memory.write_addr[g].eq(
                        Mux(
                            high,
                            Mux(low, loader.load_addr, second_addr),
                            Mux(low, pooling.write_addr, post.write_addr[g]),
                        )
                    ),
                    memory.write_data[g].eq(Mux(high, loaded, Mux(low, pooling.write_data[g], post.write_data[g]))),
                    memory.write_en[g].eq(
                        Mux(
                            high,
                            (low & loader.load_groups[g]).replicate(geometry.dot),
                            selected.replicate(geometry.dot) & (low.replicate(geometry.dot) | post.write_en[g]),
                        )
                    ),
                ]
        return m

    def _depthwise(
        self,
        m: Module,
        delay: Delay,
        executor: Executor,
        window: WindowGenerator,
        word: Value,
        loader: Loader,
        abort: Value,
    ) -> DepthwiseUnit:
        """The depthwise unit, which reads the words of windows as the pooling unit does."""
        m.submodules.depthwise = place(unit := DepthwiseUnit(self.geometry), abort)
        flags = {"first": window.first, "last": window.last, "tile_last": window.tile_last}
        for name, flag in flags.items():
            mine = flag & executor.depthwise
            m.d.comb += getattr(unit, name).eq(delay.event(mine, READ_LATENCY - 1, f"window_{name}"))
        m.d.comb += [
            unit.word.eq(word),
            unit.tap.eq(Mux(executor.current.alike, 0, window.step)),
            unit.slot.eq(executor.pass_slot),
            unit.write_part.eq(loader.tap_write_part),
            unit.write_addr.eq(loader.tap_write_addr),
            unit.write_data.eq(loader.weight_write_data),
            window.depthwise.eq(executor.depthwise),
        ]
        return unit
