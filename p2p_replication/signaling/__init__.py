"""The signaling server: lets members of a room find each other; the rows never pass through it."""
