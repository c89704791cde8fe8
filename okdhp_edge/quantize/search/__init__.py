"""Search: a plan, its file, its measurement and the gate; other plans until one passes."""
