// What the generated Verilog uses of AMD's DSP48E2 (UG579), for simulators that do not have it: the registers of A, B,
// M and P, the 27 by 18 bit multiplier, the cascade from PCOUT to PCIN and the 48-bit adder between them. Whatever else
// the slice can do is an error here. Leave this file out of synthesis, and of simulators with AMD's own library.
/* verilator lint_off UNUSEDSIGNAL */
module DSP48E2 #(
  parameter integer ACASCREG = 1,
  parameter integer ADREG = 1,
  parameter integer ALUMODEREG = 1,
  parameter AMULTSEL = "A",
  parameter integer AREG = 1,
  parameter A_INPUT = "DIRECT",
  parameter integer BCASCREG = 1,
  parameter BMULTSEL = "B",
  parameter integer BREG = 1,
  parameter B_INPUT = "DIRECT",
  parameter integer CARRYINREG = 1,
  parameter integer CARRYINSELREG = 1,
  parameter integer CREG = 1,
  parameter integer DREG = 1,
  parameter integer INMODEREG = 1,
  parameter integer MREG = 1,
  parameter integer OPMODEREG = 1,
  parameter integer PREG = 1,
  parameter USE_MULT = "MULTIPLY",
  parameter USE_SIMD = "ONE48"
) (
  input CLK,
  input [29:0] A, ACIN,
  input [17:0] B, BCIN,
  input [47:0] C, PCIN,
  input [26:0] D,
  input [8:0] OPMODE,
  input [4:0] INMODE,
  input [3:0] ALUMODE,
  input [2:0] CARRYINSEL,
  input CARRYIN, CARRYCASCIN, MULTSIGNIN,
  input CEA1, CEA2, CEAD, CEALUMODE, CEB1, CEB2, CEC, CECARRYIN, CECTRL, CED, CEINMODE, CEM, CEP,
  input RSTA, RSTALLCARRYIN, RSTALUMODE, RSTB, RSTC, RSTCTRL, RSTD, RSTINMODE, RSTM, RSTP,
  output [47:0] P, PCOUT
);
  generate
    if (AREG > 1 || BREG > 1 || ACASCREG != AREG || BCASCREG != BREG) begin : other_operands
      initial $fatal(1, "DSP48E2: AREG and BREG must be 0 or 1, ACASCREG and BCASCREG the same");
    end
    if (AMULTSEL != "A" || BMULTSEL != "B" || A_INPUT != "DIRECT" || B_INPUT != "DIRECT" || USE_MULT != "MULTIPLY"
        || USE_SIMD != "ONE48") begin : other_arithmetic
      initial $fatal(1, "DSP48E2: only A times B is modelled, both from their ports, and one sum of 48 bits");
    end
    if (ADREG != 0 || ALUMODEREG != 0 || CARRYINREG != 0 || CARRYINSELREG != 0 || CREG != 0 || DREG != 0
        || INMODEREG != 0 || OPMODEREG != 0) begin : other_registers
      initial $fatal(1, "DSP48E2: registers of C, D and of what selects must be 0: they are not modelled");
    end
  endgenerate

  wire cascaded = OPMODE[6:4] == 3'b001, shifted = OPMODE[6:4] == 3'b101;
  always @(posedge CLK) begin
    if ({OPMODE[8:7], OPMODE[3:0], INMODE, ALUMODE, CARRYINSEL, CARRYIN} != {2'b00, 4'b0101, 13'b0}
        || !(cascaded || shifted || OPMODE[6:4] == 3'b000))
      $fatal(1, "DSP48E2: only P = A * B, or with PCIN or PCIN / 2**17 added, is modelled");
    if (!CEM || !CEP || RSTA || RSTB || RSTM || RSTP)
      $fatal(1, "DSP48E2: resets, and enables of M and P, are not modelled");
  end

  reg signed [26:0] a_q = 0;
  reg signed [17:0] b_q = 0;
  reg signed [44:0] m_q = 0;
  reg signed [47:0] p_q = 0;
  wire signed [26:0] a = AREG == 1 ? a_q : $signed(A[26:0]);
  wire signed [17:0] b = BREG == 1 ? b_q : $signed(B);
  wire signed [44:0] product = $signed({{18{a[26]}}, a}) * $signed({{27{b[17]}}, b});
  wire signed [44:0] m = MREG == 1 ? m_q : product;
  wire signed [47:0] z = shifted ? $signed({{17{PCIN[47]}}, PCIN[47:17]}) : cascaded ? $signed(PCIN) : 48'sd0;
  wire signed [47:0] total = $signed({{3{m[44]}}, m}) + z;
  always @(posedge CLK) begin
    if (CEA2) a_q <= $signed(A[26:0]);
    if (CEB2) b_q <= $signed(B);
    m_q <= product;
    p_q <= total;
  end
  assign P = PREG == 1 ? p_q : total;
  assign PCOUT = P;
endmodule
