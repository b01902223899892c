"""Charts, timelines and SVG, without a kernel."""
