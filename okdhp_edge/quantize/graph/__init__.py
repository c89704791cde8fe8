"""Graphs: a float ONNX file to the Q/DQ, strongly typed or OpenVINO file of a profile."""
