`timescale 1ns/1ps
// The accelerator with the signals that cocotbext-axi wants of an AXI4 bus: it has one ID, the bus models need a name for it.
module axi_harness #(parameter int BITS = 64) (input clk, input rst);
  wire interrupt;

  logic s_axi_ctrl_awvalid, s_axi_ctrl_awready, s_axi_ctrl_wvalid, s_axi_ctrl_wready;
  logic s_axi_ctrl_bvalid, s_axi_ctrl_bready, s_axi_ctrl_arvalid, s_axi_ctrl_arready;
  logic s_axi_ctrl_rvalid, s_axi_ctrl_rready;
  logic [11:0] s_axi_ctrl_awaddr, s_axi_ctrl_araddr;
  logic [2:0] s_axi_ctrl_awprot, s_axi_ctrl_arprot;
  logic [31:0] s_axi_ctrl_wdata, s_axi_ctrl_rdata;
  logic [3:0] s_axi_ctrl_wstrb;
  logic [1:0] s_axi_ctrl_bresp, s_axi_ctrl_rresp;

  logic m_axi_arvalid, m_axi_arready, m_axi_rvalid, m_axi_rready, m_axi_rlast;
  logic m_axi_awvalid, m_axi_awready, m_axi_wvalid, m_axi_wready, m_axi_wlast, m_axi_bvalid, m_axi_bready;
  logic [31:0] m_axi_araddr, m_axi_awaddr;
  logic [7:0] m_axi_arlen, m_axi_awlen;
  logic [2:0] m_axi_arsize, m_axi_awsize, m_axi_arprot, m_axi_awprot;
  logic [1:0] m_axi_arburst, m_axi_awburst, m_axi_rresp, m_axi_bresp;
  logic [3:0] m_axi_arcache, m_axi_awcache;
  logic [BITS-1:0] m_axi_rdata, m_axi_wdata;
  logic [BITS/8-1:0] m_axi_wstrb;
  logic [0:0] m_axi_arid, m_axi_rid, m_axi_awid, m_axi_bid;
  assign m_axi_arid = 0;
  assign m_axi_awid = 0;

  codesign_top dut (.*);
endmodule
