"""Export one branch without the FAU: best.safetensors -> fp32/model.onnx + card.json."""
