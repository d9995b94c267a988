"""The live data plane: the OpenAI API in front of pools of engines."""
