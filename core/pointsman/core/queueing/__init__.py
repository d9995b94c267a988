"""In which order requests wait: pure rules over what waits and what was served. One module per rule."""
