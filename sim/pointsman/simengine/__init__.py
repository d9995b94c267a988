"""An HTTP server that behaves as a vLLM or SGLang instance does, on the simulator's engine loop."""
