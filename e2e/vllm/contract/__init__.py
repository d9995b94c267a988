"""What an engine does, case by case: asked of real vLLM, recorded, and asked of the simulated engine."""
