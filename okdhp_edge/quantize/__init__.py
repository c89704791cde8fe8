"""INT8 quantization with an accuracy gate: fp32/ -> int8/<profile>/ for each runtime."""
