"""vLLM's own scheduler and our engine loop, driven side by side and compared in every iteration."""
