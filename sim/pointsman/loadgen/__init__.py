"""A load client for any OpenAI endpoint."""
