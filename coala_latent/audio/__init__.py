"""Sound files, resampling, framing and front ends."""
