"""One function a command: wiring of rooms, progress and summaries."""
