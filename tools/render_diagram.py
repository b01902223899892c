"""Render `docs/architecture.mmd` to `docs/images/architecture.png`: python tools/render_diagram.py [OUTPUT]

Needs npm and a Chromium on PATH. Installs mermaid-cli into a temporary folder and removes it afterwards.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

MERMAID_CLI = "@mermaid-js/mermaid-cli@11.17.0"
DOCS = Path(__file__).resolve().parent.parent / "docs"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

# Mermaid centres a group's title, where arrows cross it. These rules move each title aside by hand. Check the picture
# after a change of the layout.
STYLE = """
.cluster-label foreignObject { overflow: visible; }
.cluster-label foreignObject div {
  display: block !important; width: 92px; text-align: left !important; white-space: normal !important;
  font-weight: bold; font-size: 14px; line-height: 1.25 !important;
}
[id$="-Client"] .cluster-label foreignObject { transform: translate(-51px, 4px); }
[id$="-Mesh"] .cluster-label foreignObject { transform: translate(-130px, 8px); }
[id$="-Bus"] .cluster-label foreignObject { transform: translate(188px, 8px); }
[id$="-OrderService"] .cluster-label foreignObject { transform: translate(-83px, 4px); }
[id$="-InventoryService"] .cluster-label foreignObject { transform: translate(-82px, 4px); }
[id$="-PaymentService"] .cluster-label foreignObject { transform: translate(54px, 4px); }
[id$="-ShippingService"] .cluster-label foreignObject { transform: translate(41px, 4px); }
[id$="Store"] .cluster-label foreignObject { transform: translate(-10px, 2px); }
[id$="-Monitoring"] .cluster-label foreignObject { transform: translate(-88px, 246px); }
[id$="-Mesh"] div, [id$="-Bus"] div { width: 200px !important; }
[id$="-Monitoring"] div { width: 150px !important; }
[id$="Store"] div { width: 130px !important; color: #7a3d00; }
"""


def digest(source: Path) -> str:
    """Return a digest of a picture's sources."""
    return hashlib.sha256(source.read_bytes() + STYLE.encode()).hexdigest()


def stamp(png: bytes, text: str) -> bytes:
    """Insert a text chunk after a PNG's header, so that a test can detect an outdated picture."""
    body = b"tEXt" + b"Sources\0" + text.encode("ascii")
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    header = 8 + 25  # the signature, then IHDR, which is always first and 25 bytes long
    return png[:header] + chunk + png[header:]


def find(*names: str) -> str:
    """Return the path of the first of these programs on PATH, or exit with a message."""
    for name in names:
        if path := shutil.which(name):
            return path
    sys.exit(f"render_diagram: none of {', '.join(names)} is on PATH; install one and try again")


def render(source: Path, output: Path) -> None:
    """Render a Mermaid file to a PNG at twice the screen resolution."""
    npm, browser = find("npm"), find(*BROWSERS)
    # Chromium's sandbox does not work for root. The page is the project's own.
    arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    environment = os.environ | {"PUPPETEER_SKIP_DOWNLOAD": "1"}
    with tempfile.TemporaryDirectory(prefix="saga-lab-diagram-") as name:
        folder = Path(name)
        (folder / "browser.json").write_text(json.dumps({"executablePath": browser, "args": arguments}))
        (folder / "style.css").write_text(STYLE)
        install = [npm, "install", "--prefix", name, "--no-audit", "--no-fund", "--silent", MERMAID_CLI]
        subprocess.run(install, check=True, env=environment, cwd=folder, timeout=600)
        mmdc = folder / "node_modules" / ".bin" / "mmdc"
        command = [str(mmdc), "--quiet", "--input", str(source), "--output", str(folder / "diagram.png")]
        command += ["--puppeteerConfigFile", "browser.json", "--cssFile", "style.css"]
        command += ["--width", "2400", "--scale", "2", "--backgroundColor", "white"]
        subprocess.run(command, check=True, env=environment, cwd=folder, timeout=300)
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(stamp((folder / "diagram.png").read_bytes(), digest(source)))


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "images" / "architecture.png"
    render(DOCS / "architecture.mmd", target)
    print(target)
