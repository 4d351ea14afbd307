"""Loads a sound map of many points in headless Chromium and measures how smoothly it moves.

    python benchmarks/sound_map.py [--points 100000] [--dim 128] [--seconds 5] [--output FILE]

Frames are those that the page draws while the wheel zooms and the mouse drags without a pause; a
frame's time runs from one drawing to the next, so 16.7 ms is a display's 60 Hz. The renderer is
printed: SwiftShader is WebGL in software, on the processor, which any graphics processor outruns.
Needs playwright (`pip install playwright`) and Chromium (`COALA_LATENT_CHROMIUM`, or on PATH).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from coala_latent.viewer.sound_map import SoundMap, sound_map_page

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
PARTS = 10  # points a recording
SIZE = {"width": 1440, "height": 900}


def synthetic_map(points: int, dim: int, seed: int = 0) -> SoundMap:
    rng = np.random.default_rng(seed)
    centres, middles = rng.normal(size=(24, dim)), rng.normal(size=(24, 2))
    cluster = rng.integers(24, size=points)
    part = np.arange(points) % PARTS
    recordings = -(-points // PARTS)
    return SoundMap(
        title=f"{points} points",
        projections={
            "one": middles[cluster] + rng.normal(0, 0.2, (points, 2)),
            "two": rng.normal(size=(points, 2)),
        },
        names=[f"{i // PARTS // 1000:03d}/{i // PARTS:06d}.mp3" for i in range(points)],
        recording=np.arange(points) // PARTS,
        start=part * 3.0,
        end=part * 3.0 + 3,
        sounds=[""] * recordings,
        columns={
            "cluster": [f"K{k + 1}" for k in cluster],
            "plays": rng.lognormal(3, 2, points).tolist(),
        },
        vectors=(centres[cluster] + rng.normal(0, 0.6, (points, dim))).astype(np.float32),
    )


def summary(times: list[float]) -> dict[str, Any]:
    return {
        "frames": len(times),
        "median_ms": round(float(np.median(times)), 1),
        "p95_ms": round(float(np.quantile(times, 0.95)), 1),
    }


def until(page: Any, expression: str) -> None:
    # The page's policy forbids playwright's own way of waiting, which evaluates text.
    while not page.evaluate(expression):
        page.wait_for_timeout(5)


def moved(page: Any, seconds: float, move: Any) -> dict[str, Any]:
    before = page.evaluate("soundMap.frameTimes().length")
    start, step = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        move(step)
        step += 1
    return summary(page.evaluate("soundMap.frameTimes()")[before:])


def measure(html: Path, seconds: float, renderer: str | None) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    program = os.environ.get("COALA_LATENT_CHROMIUM") or next(
        filter(None, map(shutil.which, CHROMIUM))
    )
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox"] if root else []
        )
        page = browser.new_page(viewport=SIZE)
        start = time.perf_counter()
        page.goto(f"{html.as_uri()}?renderer={renderer}" if renderer else html.as_uri())
        until(page, "window.soundMap && soundMap.drawn() > 0")
        results: dict[str, Any] = {"load_s": round(time.perf_counter() - start, 2)}
        results["renderer"] = page.evaluate("soundMap.renderer")
        page.wait_for_timeout(1500)
        page.mouse.move(700, 450)
        # In for half a second, out for half a second.
        results["zoom"] = moved(
            page, seconds, lambda step: page.mouse.wheel(0, -30 if step // 30 % 2 == 0 else 30)
        )
        page.keyboard.press("0")
        page.wait_for_timeout(600)
        page.mouse.move(500, 250)
        page.mouse.down()
        results["pan"] = moved(
            page,
            seconds,
            lambda step: page.mouse.move(500 + 3 * (step % 60), 250 + 2 * (step % 60)),
        )
        page.mouse.up()
        page.keyboard.press("0")
        page.wait_for_timeout(600)
        x, y = page.evaluate("soundMap.screen(soundMap.count >> 1)")
        start = time.perf_counter()
        page.mouse.click(x, y)
        until(page, "soundMap.selected() >= 0")
        results["select_ms"] = round(1000 * (time.perf_counter() - start), 1)
        results["recolour_by_distance_ms"] = page.evaluate(
            """async () => {
              const frame = () => new Promise(requestAnimationFrame);
              const times = [], color = document.getElementById("color");
              for (let i = 0; i < 10; i++) {
                color.value = "none";
                color.dispatchEvent(new Event("change"));
                await frame(); await frame();
                const start = performance.now();
                color.value = "distance";
                color.dispatchEvent(new Event("change"));
                times.push(performance.now() - start);
                await frame();
              }
              return Math.round(10 * times.sort((a, b) => a - b)[5]) / 10;
            }"""
        )
        browser.close()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--renderer", choices=["webgl", "processor"])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        points = synthetic_map(options.points, options.dim)
        start = time.perf_counter()
        html = sound_map_page(points).write(Path(folder) / "map.html")
        results = {
            "points": options.points,
            "dim": options.dim,
            "build_s": round(time.perf_counter() - start, 2),
            "megabytes": round(html.stat().st_size / 1e6, 1),
            **measure(html, options.seconds, options.renderer),
        }
    text = json.dumps(results, indent=2)
    print(text)
    if options.output:
        options.output.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
