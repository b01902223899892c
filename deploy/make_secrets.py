"""Make the Secrets of the chart `deploy/saga-lab` with random passwords, for `database.existingSecrets=true`:

    python deploy/make_secrets.py | kubectl --namespace saga-lab create --filename -

`create` refuses to replace Secrets that exist. Needs Python 3.11 and nothing else.
"""

import json
import secrets
import tomllib
from pathlib import Path
from typing import Any

SERVICES = Path(__file__).resolve().parent.parent / "lab-stack" / "services.toml"
ROLES = ("relay", "reader", "operator")
"""The roles of a database besides its owner (lab-stack/postgres/roles.sql)."""


def secret(name: str, kind: str, data: dict[str, str]) -> dict[str, Any]:
    """Return a Secret."""
    labels = {"app.kubernetes.io/part-of": "saga-lab", "cnpg.io/reload": "true"}
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "stringData": data}


def all_secrets() -> list[dict[str, Any]]:
    """Return a Secret for each role of each database, and the one with the relay's logins."""
    found, logins = [], ""
    for service in tomllib.loads(SERVICES.read_text(encoding="utf-8"))["service"]:
        database = f"{service['name']}-db"
        for role in (service["name"], *ROLES):
            password = secrets.token_hex(16)
            login = {"username": role, "password": password}
            found.append(secret(f"{database}-{role}", "kubernetes.io/basic-auth", login))
            if role == "relay":
                logins += f"{database}-rw:5432:*:{role}:{password}\n"
    return [*found, secret("connect-pgpass", "Opaque", {"pgpass": logins})]


if __name__ == "__main__":
    print(json.dumps({"apiVersion": "v1", "kind": "List", "items": all_secrets()}, indent=1))
