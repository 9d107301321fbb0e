"""Networks in and out: TFLite, ONNX (float, QDQ, QONNX) and plain arrays, to and from integer networks.

Importers read a file that another tool wrote and give an `IntegerNetwork` (or, of a float model, a `Network` and its
weights). Exporters write an `IntegerNetwork` for other tools. Nothing here trains or runs an accelerator.
"""
