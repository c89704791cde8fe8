"""INT8 with proof: fp32/ -> int8/<profile>/ for each runtime, one calibration, one gate."""
