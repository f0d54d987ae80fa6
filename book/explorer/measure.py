"""Seconds and bytes of the built page in Chromium: `python -m book.explorer.measure`, after `make explorer`."""

from __future__ import annotations

import shutil
import time

from playwright.sync_api import Page, sync_playwright

from course.paths import OUTPUT_DIR

PAGE = OUTPUT_DIR / "book" / "explorer.html"
PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000"


def seconds_to_map(page: Page, settings: str) -> float:
    """Seconds from opening a link to its finished map."""
    page.goto("about:blank")
    start = time.perf_counter()
    page.goto(f"{PAGE.as_uri()}#{settings}")
    page.locator(".map[data-state=done]").first.wait_for()
    return time.perf_counter() - start


def main() -> None:
    """Print one line for each measurement."""
    parts = PAGE.parent / "explorer"
    large = (parts / "resnet50.js").stat().st_size
    total = PAGE.stat().st_size + sum(file.stat().st_size for file in parts.iterdir())
    print(f"page with SqueezeNet {(total - large) / 1e6:.1f} MB, ResNet-50 on demand {large / 1e6:.1f} MB")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page()
        page.set_default_timeout(300_000)
        first = seconds_to_map(page, "photo=koala")
        print(f"first paint {page.evaluate(PAINT):.2f} s, first map {first:.1f} s")
        for settings, words in (("method1=smoothGrad", "SmoothGrad of 50"),
                                ("method1=gradient&network=resnet50", "ResNet-50's first gradient")):  # fmt: skip
            print(f"{words} {seconds_to_map(page, f'photo=koala&{settings}'):.1f} s, with opening the page")
        browser.close()


if __name__ == "__main__":
    main()
