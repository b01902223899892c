"""The packages that the services' image installs."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def pins(file: Path) -> dict[str, str]:
    """Return the versions in a lock or constraints file, by package."""
    lines = (line.split(";")[0].removesuffix("\\").strip() for line in file.read_text(encoding="utf-8").splitlines())
    return dict(line.split("==") for line in lines if line[:1].isalnum() and "==" in line)


def test_services_image_has_the_versions_of_the_project() -> None:
    """A service runs with the same package versions in a container as in a local process."""
    every, services = pins(ROOT / "constraints.txt"), pins(ROOT / "labservices" / "requirements.lock")
    assert len(services) > 20
    assert services.items() <= every.items()


def test_services_lock_contains_every_required_package() -> None:
    """The lock contains every package that requirements.in names."""
    lines = (ROOT / "labservices" / "requirements.in").read_text(encoding="utf-8").splitlines()
    named = {line.split("[")[0] for line in lines if line and not line.startswith("#")}
    assert named <= set(pins(ROOT / "labservices" / "requirements.lock"))
