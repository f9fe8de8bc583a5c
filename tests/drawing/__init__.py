"""Drawings as programs of others show them: Chromium, lstopo, CairoSVG and librsvg (tests/drawing/setup)."""
