"""Training by online distillation: recipe.toml -> best.safetensors."""
