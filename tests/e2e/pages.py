"""Looks at HTML pages: whether every tag is closed and every link leads somewhere, and what Chromium makes of them."""

import shutil
import subprocess
from html.parser import HTMLParser

# Elements without an end.
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Collects what is wrong with the tags of a page, its links and what it would fetch."""

    def __init__(self, text):
        super().__init__()
        self.open, self.problems, self.links, self.outside = [], [], [], []
        self.feed(text)
        self.close()
        self.problems += [f"<{tag}> is never closed" for tag in self.open]

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.links += [values["href"]] if tag == "a" and "href" in values else []
        self.outside += [tag] if tag in {"script", "link", "iframe", "img", "object"} else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> at {self.getpos()} closes another tag")


def problems(path):
    """What is wrong with a page, without a browser."""
    text = path.read_text()
    page = Page(text)
    missing = [link for link in page.links if not (path.parent / link).is_file()]
    broken = [word for word in ["NaN", "http://", "https://"] if word in text]
    return page.problems + [f"links to {link}" for link in missing] + page.outside + broken


def rendered(path, picture):
    """Whether Chromium shows a page and keeps its drawings; None where there is no Chromium."""
    browser = next((found for name in ["chromium", "chromium-browser", "google-chrome"] if (found := shutil.which(name))), None)
    if browser is None:
        return None
    common = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1300,1800"]
    done = subprocess.run([*common, f"--screenshot={picture}", "--dump-dom", path.as_uri()], capture_output=True, text=True,
                          timeout=120)
    # What the browser drew has as many pictures as the page, and a shot of a blank page is a few kilobytes.
    drawn = done.stdout.count("<svg") == path.read_text().count("<svg") > 0
    return done.returncode == 0 and drawn and picture.stat().st_size > 15_000
