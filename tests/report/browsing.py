"""A page in a real browser, watched."""

import shutil
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which('chromium') or '/usr/bin/chromium'
REASON = 'chromium is not installed: the browser tests did not run'
ATTACK = (
    '</script><script>document.title = "owned"</script>'
    '<img src="http://x.test/y" onerror=\'document.title = "owned"\'>'
)
SIZES = {'layers': 3, 'heads': 4, 'tokens': 40}


class Watched:
    """A page of which is noted what it says and what it asks for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.said: list[str] = []
        self.fetched: list[str] = []
        self.page = browser.new_page(**options)
        self.page.on('console', lambda message: self.said.append(message.text))
        self.page.on('pageerror', lambda error: self.said.append(str(error)))
        self.page.on('request', self._request)
        self.page.goto(path.as_uri())

    def _request(self, request: Any) -> None:
        if not request.url.startswith(('file:', 'data:')):
            self.fetched.append(request.url)

    def color(self, variable: str) -> str:
        return str(
            self.page.evaluate(
                'name => getComputedStyle(document.documentElement)'
                '.getPropertyValue(name).trim()',
                f'--{variable}',
            )
        )

    def drawn(self, graph: int = 0) -> int:
        count = self.page.locator('.count').nth(graph)
        return int(count.get_attribute('data-drawn'))

    def settled(self) -> None:
        """Waits for what was asked for to be drawn."""
        self.page.evaluate(
            'new Promise(done => requestAnimationFrame('
            '() => requestAnimationFrame(done)))'
        )

    def slide(self, name: str, value: int) -> None:
        self.page.locator(f'#{name}').evaluate(
            '(control, value) => { control.value = value; '
            'control.dispatchEvent(new Event("input")); }',
            value,
        )
        self.settled()

    def shapes(self) -> str:
        """The drawing of the first graph."""
        return str(self.page.locator('.stage svg').first.inner_html())

    def arcs(self) -> int:
        """How many arcs and loops there are in it."""
        return int(
            self.page.locator('.stage svg').first.evaluate(
                'svg => [...svg.querySelector("g").querySelectorAll("path")]'
                ".map(path => path.getAttribute('d').split('M').length - 1)"
                '.reduce((a, b) => a + b, 0)'
            )
        )
