"""One branch, no FAU: best.safetensors -> fp32/model.onnx + card.json."""
