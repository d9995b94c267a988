"""HTTP/1.1 on httptools: a pooled client, strict request heads, SSE boundaries."""
