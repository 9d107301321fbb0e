"""The accelerator: loader, executor, window generator, array, post-processing, pooling, memories and DMA."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out

from codesign.rtl.activation import ActivationMemory, WordAligner
from codesign.rtl.array import SystolicArray
from codesign.rtl.axi import ADDRESS_BITS, axi4_master
from codesign.rtl.dma import INCR, ResultWriter, StreamReader
from codesign.rtl.executor import COUNTERS, Executor
from codesign.rtl.geometry import Geometry
from codesign.rtl.layout import Op
from codesign.rtl.loader import Loader
from codesign.rtl.modules import place
from codesign.rtl.pooling import PoolingUnit
from codesign.rtl.postprocess import PostProcessor
from codesign.rtl.weight_stationary_array import DrainSequencer, WeightStationaryArray
from codesign.rtl.window import WindowGenerator


class Accelerator(Component):  # type: ignore[misc]  # Amaranth is not typed
    """Runs the program at `program_address` from one `start` pulse until `done`.

    Ports:
        start             one cycle high while `done`: begin
        program_address   byte address of the stream, a multiple of the burst size
        program_bursts    length of the stream in bursts
        done              high when nothing runs; all results are in memory
        layer_done        one cycle high when a layer (not a LOAD) has written its last result
        counter_*         cycles by cause (codesign.rtl.executor.COUNTERS) since the last start
        band_busy_*       cycles in which a band computed for at least one filter
        m_axi             AXI4 master
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        members: dict[str, In | Out] = {
            "start": In(1),
            "program_address": In(ADDRESS_BITS),
            "program_bursts": In(24),
            "done": Out(1),
            "layer_done": Out(1),
            "m_axi": Out(axi4_master(geometry.beat_bits)),
        }
        members |= {f"counter_{name}": Out(32) for name in COUNTERS}
        members |= {f"band_busy_{i}": Out(32) for i in range(len(geometry.hw.bands))}
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry = self.geometry
        axi = self.m_axi
        m.submodules.reader = place(reader := StreamReader(geometry))
        m.submodules.loader = place(loader := Loader(geometry))
        m.submodules.executor = place(executor := Executor(geometry))
        m.submodules.window = place(window := WindowGenerator(geometry))
        m.submodules.memory_0 = place(memory_0 := ActivationMemory(geometry))
        m.submodules.memory_1 = place(memory_1 := ActivationMemory(geometry))
        m.submodules.aligner = place(aligner := WordAligner(geometry))
        stationary = geometry.weight_stationary
        array = WeightStationaryArray(geometry) if stationary else SystolicArray(geometry)
        m.submodules.array = place(array)
        m.submodules.post = place(post := PostProcessor(geometry))
        m.submodules.pooling = place(pooling := PoolingUnit(geometry))
        m.submodules.writer = place(writer := ResultWriter(geometry))
        d = executor.current
        go = Signal()
        m.d.comb += [go.eq(self.start & executor.done), self.done.eq(executor.done)]

        # ---- memory port ---------------------------------------------------------------------------------------
        size = (geometry.beat_bytes - 1).bit_length()
        m.d.comb += [
            reader.start.eq(go),
            reader.address.eq(self.program_address),
            reader.bursts.eq(self.program_bursts),
            axi.arvalid.eq(reader.arvalid),
            reader.arready.eq(axi.arready),
            axi.araddr.eq(reader.araddr),
            axi.arlen.eq(reader.arlen),
            axi.arsize.eq(size),
            axi.arburst.eq(INCR),
            reader.rvalid.eq(axi.rvalid),
            axi.rready.eq(reader.rready),
            reader.rdata.eq(axi.rdata),
            axi.awvalid.eq(writer.awvalid),
            writer.awready.eq(axi.awready),
            axi.awaddr.eq(writer.awaddr),
            axi.awlen.eq(0),
            axi.awsize.eq(size),
            axi.awburst.eq(INCR),
            axi.wvalid.eq(writer.wvalid),
            writer.wready.eq(axi.wready),
            axi.wdata.eq(writer.wdata),
            axi.wstrb.eq(writer.wstrb),
            axi.wlast.eq(1),
            writer.bvalid.eq(axi.bvalid),
            axi.bready.eq(writer.bready),
        ]

        # ---- control -------------------------------------------------------------------------------------------
        m.d.comb += [
            loader.start.eq(go),
            loader.beat.eq(reader.beat),
            loader.beat_valid.eq(reader.beat_valid),
            reader.beat_ready.eq(loader.beat_ready),
            loader.executor_idle.eq(executor.idle),
            loader.descriptor_taken.eq(executor.descriptor_taken),
            loader.pass_done.eq(post.pass_done),
            executor.start.eq(go),
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
            self.layer_done.eq(executor.layer_done),
        ]
        for source, target in zip(loader.headers, executor.headers, strict=True):
            m.d.comb += target.eq(source)
        for name, counter in zip(COUNTERS, executor.counters, strict=True):
            m.d.comb += getattr(self, f"counter_{name}").eq(counter)
        for i, busy in enumerate(executor.band_busy):
            m.d.comb += getattr(self, f"band_busy_{i}").eq(busy)

        # ---- reading: window generator (tau + 1), memory (tau + 2), aligned word (tau + 3) ---------------------
        m.d.comb += [
            window.descriptor.eq(d),
            window.pooling.eq(executor.pooling),
            window.word_offset.eq(executor.word_offset),
            window.start.eq(executor.pass_start),
            window.advance.eq(executor.advance),
        ]
        key_2, pad_2 = Signal(geometry.key_bits, reset_less=True), Signal(reset_less=True)
        pool_first, pool_last = Signal(2), Signal(2)
        step_2 = Signal(geometry.weight_addr_bits, reset_less=True)
        first_2 = Signal()
        m.d.sync += [
            key_2.eq(window.key),
            pad_2.eq(window.pad),
            pool_first.eq((pool_first << 1) | (window.first & executor.pooling)),
            pool_last.eq((pool_last << 1) | (window.last & executor.pooling)),
            step_2.eq(executor.weight_base + window.step),
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
            aligner.key.eq(key_2),
            aligner.pad.eq(pad_2),
            aligner.pad_code.eq(d.pad_code),
            array.word.eq(aligner.word),
            array.step_addr.eq(step_2),
            array.write_group.eq(loader.weight_write_group),
            array.write_addr.eq(loader.weight_write_addr),
            array.write_data.eq(loader.weight_write_data),
        ]
        tile_last, tile_final = Signal(), Signal()
        m.d.comb += [tile_last.eq(window.last & (d.op != Op.MAX_POOL)), tile_final.eq(window.final & tile_last)]
        if stationary:
            m.submodules.drain = place(drain := DrainSequencer(geometry))
            valid_2, tap_2 = Signal(), Signal()
            m.d.sync += [valid_2.eq(window.valid & ~executor.pooling), tap_2.eq(window.tap)]
            whole = Mux(tile_final, d.last_block_tiles, d.block_tiles)
            m.d.comb += [
                drain.block.eq(tile_last),
                drain.final.eq(tile_final),
                drain.tiles.eq(Mux(executor.pooling, 1, whole)),
                array.step_valid.eq(valid_2),
                array.step_take.eq(tap_2),
                array.step_open.eq(first_2),
                array.drain.eq(drain.tile & ~executor.pooling),
                array.drain_first.eq(drain.tile_first),
                post.tile_last.eq(drain.tile),
                post.tile_final.eq(drain.tile_final),
            ]
        else:
            last_2 = Signal()
            column_2, column_3 = Signal(geometry.columns), Signal(geometry.columns)
            m.d.sync += [
                last_2.eq(window.last & ~executor.pooling),
                column_2.eq(window.column),
                column_3.eq(column_2),
            ]
            m.d.comb += [
                array.step_first.eq(first_2),
                array.step_last.eq(last_2),
                array.load.eq(column_3),
                post.tile_last.eq(tile_last),
                post.tile_final.eq(tile_final),
            ]

        # ---- post-processing and pooling -----------------------------------------------------------------------
        m.d.comb += [
            post.descriptor.eq(d),
            post.averaging.eq(executor.averaging),
            post.param_write_en.eq(loader.param_write_en),
            post.param_write_addr.eq(loader.param_write_addr),
            post.param_write_data.eq(loader.param_write_data),
            post.pooled.eq(pooling.pooled),
            pooling.descriptor.eq(d),
            pooling.start.eq(executor.pass_start),
            pooling.averaging.eq(executor.averaging),
            pooling.word.eq(aligner.word),
            pooling.first.eq(pool_first[-1]),
            pooling.last.eq(pool_last[-1]),
            writer.valid.eq(post.wide_valid),
            writer.address.eq(d.out_addr + (post.wide_channel << 2)),
            writer.data.eq(post.wide_data),
        ]
        for j in range(geometry.columns):
            m.d.comb += post.results[j].eq(array.results[j])

        # ---- writing: only one of loader, pooling unit and post-processing writes at a time --------------------
        for index, memory in enumerate((memory_0, memory_1)):
            selected = Signal(name=f"selected_{index}")
            loads = Signal(name=f"loads_{index}")
            m.d.comb += [
                selected.eq(d.target == index),
                loads.eq(loader.load_valid & (loader.load_target == index)),
            ]
            for g in range(geometry.groups):
                start = (g % geometry.groups_per_beat) * geometry.group_bits
                with m.If(loads):
                    m.d.comb += [
                        memory.write_en[g].eq(loader.load_groups[g].replicate(geometry.dot)),
                        memory.write_addr[g].eq(loader.load_addr),
                        memory.write_data[g].eq(loader.load_data[start : start + geometry.group_bits]),
                    ]
                with m.Elif(pooling.write_group[g]):
                    m.d.comb += [
                        memory.write_en[g].eq(selected.replicate(geometry.dot)),
                        memory.write_addr[g].eq(pooling.write_addr),
                        memory.write_data[g].eq(pooling.write_data),
                    ]
                with m.Else():
                    m.d.comb += [
                        memory.write_en[g].eq(post.write_en[g] & selected.replicate(geometry.dot)),
                        memory.write_addr[g].eq(post.write_addr[g]),
                        memory.write_data[g].eq(post.write_data[g]),
                    ]
        return m
