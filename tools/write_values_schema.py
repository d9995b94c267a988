"""Put the schema of the router's configuration into the chart's values.schema.json: `make crds`.

So Helm refuses a wrong `router.config` by name before any router does.
"""

import json
import re
from pathlib import Path
from typing import Any

from pointsman.api.router_config import RouterConfig

FILE = Path(__file__).parents[1] / "charts" / "pointsman" / "values.schema.json"
OWN = "router."
"""What the names of definitions begin with that are the router's."""
UNCHECKED = {"$defs", "default", "title"}


def written(text: str) -> str:
    """The file with the router's definitions as they are now."""
    values = json.loads(text)
    schema = RouterConfig.model_json_schema()
    found = {"config": schema, **schema["$defs"]}
    in_lists = set(re.findall(r'"items": {"\$ref": "#/\$defs/(\w+)"', json.dumps(schema)))
    for name in found.keys() - in_lists:
        # The chart's own configuration is merged under it: what it lacks may be there.
        found[name].pop("required", None)
    values["definitions"] = {
        name: body for name, body in values["definitions"].items() if not name.startswith(OWN)
    } | {f"{OWN}{name}": _plain(body) for name, body in sorted(found.items())}
    values["properties"]["router"]["properties"]["config"] = {"$ref": f"#/definitions/{OWN}config"}
    return json.dumps(values, indent=2) + "\n"


def _plain(schema: Any) -> Any:
    """References into the chart's file, and nothing that is not checked."""
    if isinstance(schema, list):
        return [_plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return {"$ref": schema["$ref"].replace("#/$defs/", f"#/definitions/{OWN}")}
    plain = {name: _plain(value) for name, value in schema.items() if name not in UNCHECKED}
    if "properties" in schema:
        plain["properties"] = {name: _plain(value) for name, value in schema["properties"].items()}
    return plain


def main() -> None:
    FILE.write_text(written(FILE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
