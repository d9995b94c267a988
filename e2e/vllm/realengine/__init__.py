"""Real vLLM engines on a CPU: their environment, their model and their processes."""
