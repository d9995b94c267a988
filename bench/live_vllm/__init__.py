"""How well the simulator tells the latencies of a real vLLM that was profiled from outside."""
