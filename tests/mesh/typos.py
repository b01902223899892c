"""A valid configuration, and typical slips of learners, each with its location and part of the expected message.

A slip replaces text that occurs once in the configuration. The problem must be reported on the line with `at`.
"""

from __future__ import annotations

from typing import NamedTuple

VALID = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: order, namespace: default}
spec:
  hosts: [order.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {number: 8000, name: http, protocol: HTTP}
  endpoints:
  - {address: 127.0.0.1, ports: {http: 18101}, labels: {app: order, version: v1}}
  - {address: 127.0.0.2, ports: {http: 18102}, labels: {app: order, version: v2}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: payment, namespace: default}
spec:
  hosts: [payment.default.svc.cluster.local]
  location: MESH_EXTERNAL
  resolution: DNS
  ports:
  - {number: 8443, name: web, protocol: HTTP}
  - {number: 9443, name: admin, protocol: HTTP}
  endpoints:
  - {address: payment.lab.test}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: lab-gateway, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 18080, name: front, protocol: HTTP2}
    bind: 127.0.0.9
    hosts: ["*"]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: order, namespace: default}
spec:
  host: order
  trafficPolicy:
    loadBalancer:
      consistentHash: {httpHeaderName: x-user}
    connectionPool:
      tcp: {maxConnections: 10, connectTimeout: 30ms}
      http: {http1MaxPendingRequests: 64}
    outlierDetection:
      consecutive5xxErrors: 5
      interval: 2s
      baseEjectionTime: 10s
      maxEjectionPercent: 50
  subsets:
  - name: v1
    labels: {version: v1}
  - name: v2
    labels: {version: v2}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: default}
spec:
  hosts: ["shop.lab.test"]
  gateways: [lab-gateway]
  http:
  - name: canary
    match:
    - uri: {prefix: /orders}
      headers: {x-canary: {regex: "yes|true"}}
      method: {exact: GET}
    timeout: 4s
    retries: {attempts: 2, perTryTimeout: 1s, retryOn: "5xx,reset"}
    corsPolicy: {allowMethods: [POST], maxAge: 60s}
    route:
    - destination: {host: order, subset: v1, port: {number: 8000}}
      weight: 80
    - destination: {host: order, subset: v2}
      weight: 20
    mirror: {host: payment, port: {number: 9443}}
    mirrorPercentage: {value: 7.5}
  - name: broken
    match:
    - uri: {exact: /broken}
    fault:
      abort: {percentage: {value: 33}, httpStatus: 503}
      delay: {percentage: {value: 44}, fixedDelay: 1500ms}
    route:
    - destination: {host: order}
  - name: moved
    match:
    - uri: {prefix: /old}
    redirect: {uri: /new, redirectCode: 301}
  - name: hello
    match:
    - uri: {prefix: /hello}
    directResponse: {status: 200, body: {string: hello}}
  - name: rest
    rewrite: {uri: /}
    route:
    - destination: {host: payment, port: {number: 8443}}
"""


class Slip(NamedTuple):
    """One slip of a learner."""

    old: str
    new: str
    at: str
    field: str
    message: str


HTTP, DR = "spec.http", "spec.trafficPolicy"

PROBLEMS = [
    # misspelt or misplaced names
    Slip("weight: 80", "wieght: 80", "wieght", f"{HTTP}[0].route[0].wieght", "did you mean `weight`?"),
    Slip("timeout: 4s", "timout: 4s", "timout", f"{HTTP}[0].timout", "did you mean `timeout`?"),
    Slip("gateways: [lab", "gateway: [lab", "gateway: [", "spec.gateway", "did you mean `gateways`?"),
    Slip("retryOn", "retry_on", "retry_on", f"{HTTP}[0].retries.retry_on", "did you mean `retryOn`?"),
    Slip(
        "perTryTimeout",
        "perTrytimeout",
        "perTrytimeout",
        f"{HTTP}[0].retries.perTrytimeout",
        "did you mean `perTryTimeout`?",
    ),
    Slip("fixedDelay", "fixDelay", "fixDelay", f"{HTTP}[1].fault.delay.fixDelay", "did you mean `fixedDelay`?"),
    Slip("selector", "selectors", "selectors", "spec.selectors", "allowed here: `selector`, `servers`"),
    Slip("  subsets:", "  subset:", "  subset:", "spec.subset", "did you mean `subsets`?"),
    Slip(
        "consecutive5xxErrors",
        "consecutive5xxError",
        "5xxError:",
        f"{DR}.outlierDetection.consecutive5xxError",
        "did you mean",
    ),
    Slip("resolution: STATIC", "resolutions: STATIC", "resolutions", "spec.resolutions", "did you mean `resolution`?"),
    Slip(
        "subset: v2}\n      weight: 20",
        "subset: v2, weight: 20}",
        "weight: 20",
        f"{HTTP}[0].route[1].destination.weight",
        "`weight` belongs in spec.http[].route[]",
    ),
    Slip(
        "    outlierDetection:\n",
        "  outlierDetection:\n",
        "outlierDetection:",
        "spec.outlierDetection",
        "`outlierDetection` belongs in spec.trafficPolicy",
    ),
    Slip("kind: Gateway", "kind: Gatway", "Gatway", "kind", "did you mean `Gateway`?"),
    Slip(
        "kind: DestinationRule", "kind: Destinationrule", "Destinationrule", "kind", "did you mean `DestinationRule`?"
    ),
    Slip("v1\nkind: Gateway", "v2\nkind: Gateway", "io/v2", "apiVersion", "`networking.istio.io/v1`"),
    Slip(
        "{name: shop, namespace", "{name: shop, namespce", "namespce", "metadata.namespce", "did you mean `namespace`?"
    ),
    Slip("name: shop,", "name: My_Shop,", "My_Shop", "metadata.name", "lowercase letters"),
    # wrong types
    Slip(
        'hosts: ["shop.lab.test"]',
        "hosts: shop.lab.test",
        "hosts: shop",
        "spec.hosts",
        'expected a list such as ["shop.lab.test"]',
    ),
    Slip(
        "weight: 80",
        'weight: "80"',
        '"80"',
        f"{HTTP}[0].route[0].weight",
        "expected an integer such as 80 without quotes",
    ),
    Slip(
        "weight: 80",
        "weight: 80%",
        "80%",
        f"{HTTP}[0].route[0].weight",
        "expected an integer such as 80, found the string `80%`",
    ),
    Slip(
        "weight: 80",
        "weight: 79.5",
        "79.5",
        f"{HTTP}[0].route[0].weight",
        "expected an integer such as 80, found the number 79.5",
    ),
    Slip("weight: 80", "weight:", "weight:\n", f"{HTTP}[0].route[0].weight", "is empty"),
    Slip("timeout: 4s", "timeout: 4", "timeout: 4", f"{HTTP}[0].timeout", 'expected a duration such as "2s"'),
    Slip("timeout: 4s", "timeout: 4 seconds", "4 seconds", f"{HTTP}[0].timeout", "expected a duration"),
    Slip("timeout: 4s", "timeout: 0s", "timeout: 0s", f"{HTTP}[0].timeout", "at least 1ms"),
    Slip("timeout: 4s", "timeout: 1d", "1d", f"{HTTP}[0].timeout", "expected a duration"),
    Slip(
        "{value: 33}",
        "33",
        "33",
        f"{HTTP}[1].fault.abort.percentage",
        "expected a mapping of fields (`value`), found the number 33",
    ),
    Slip(
        "{number: 8000}}\n",
        "8000}\n",
        "port: 8000",
        f"{HTTP}[0].route[0].destination.port",
        "expected a mapping of fields (`number`)",
    ),
    Slip(
        "uri: {exact: /broken}", "uri: /broken", "uri: /broken", f"{HTTP}[1].match[0].uri", "`exact`, `prefix`, `regex`"
    ),
    Slip(
        "{version: v2}\n---", "{version: 2}\n---", "{version: 2}", "spec.subsets[1].labels.version", 'in quotes ("2")'
    ),
    Slip(
        "x-canary: {regex",
        "x-canary: yes, x-more: {regex",
        "x-canary: yes",
        f"{HTTP}[0].match[0].headers.x-canary",
        "found the boolean true",
    ),
    Slip("status: 200", "status: ok", "status: ok", f"{HTTP}[3].directResponse.status", "an integer"),
    Slip("bind: 127.0.0.9", "bind: true", "bind: true", "spec.servers[0].bind", "in quotes"),
    Slip(
        "ports: {http: 18102}", "ports: [18102]", "18102", "spec.endpoints[1].ports", "(remove the `- `), found a list"
    ),
    # missing fields
    Slip("  host: order\n", "", "spec:\n  trafficPolicy", "spec.host", "is missing"),
    Slip("destination: {host: order}", "weight: 100", "weight: 100", f"{HTTP}[1].route[0].destination", "is missing"),
    Slip(
        "host: payment, port: {number: 9443}",
        "port: {number: 9443}",
        "mirror: {port",
        f"{HTTP}[0].mirror.host",
        "is missing",
    ),
    Slip(
        "  - name: v2\n    labels: {version: v2}",
        "  - labels: {version: v2}",
        "  - labels: {version: v2}",
        "spec.subsets[1].name",
        "is missing",
    ),
    Slip("address: 127.0.0.2, ", "", "18102", "spec.endpoints[1].address", "needs an address"),
    Slip(", protocol: HTTP2", "", "name: front", "spec.servers[0].port.protocol", "is missing"),
    # exclusive fields, ranges, enums
    Slip(
        "{prefix: /orders}",
        "{prefix: /orders, exact: /orders}",
        "prefix: /orders,",
        f"{HTTP}[0].match[0].uri.exact",
        "both `prefix` and `exact`",
    ),
    Slip(
        "{httpHeaderName: x-user}",
        "{httpHeaderName: x-user, useSourceIp: true}",
        "useSourceIp",
        f"{DR}.loadBalancer.consistentHash.useSourceIp",
        "both `httpHeaderName` and `useSourceIp`",
    ),
    Slip(
        "    loadBalancer:\n",
        "    loadBalancer:\n      simple: RANDOM\n",
        "consistentHash",
        f"{DR}.loadBalancer.consistentHash",
        "only one of `simple`, `consistentHash`",
    ),
    Slip(
        "httpStatus: 503}",
        "httpStatus: 503, grpcStatus: INTERNAL}",
        "503",
        f"{HTTP}[1].fault.abort.grpcStatus",
        "both `httpStatus` and `grpcStatus`",
    ),
    Slip(
        "consistentHash: {httpHeaderName: x-user}",
        "simple: ROUNDROBIN",
        "ROUNDROBIN",
        f"{DR}.loadBalancer.simple",
        "did you mean `ROUND_ROBIN`?",
    ),
    Slip("resolution: DNS", "resolution: Dns", "Dns", "spec.resolution", "did you mean `DNS`?"),
    Slip(
        "  resolution: STATIC\n",
        "",
        "endpoints:\n  - {address: 127",
        "spec.endpoints",
        "resolution is missing, which means NONE",
    ),
    Slip(
        "{number: 9443, name: admin",
        "{number: 8443, name: admin",
        "admin",
        "spec.ports[1].number",
        "port 8443 occurs twice",
    ),
    Slip(
        "{number: 9443, name: admin",
        "{number: 9443, name: web",
        "9443, name: web",
        "spec.ports[1].name",
        "`web` occurs twice",
    ),
    Slip("{http: 18101}", "{http: 181010}", "181010", "spec.endpoints[0].ports.http", "a port from 1 to 65535"),
    Slip(
        "consecutive5xxErrors: 5",
        "consecutive5xxErrors: -5",
        "-5",
        f"{DR}.outlierDetection.consecutive5xxErrors",
        "from 0 to",
    ),
    # Istio's own rules
    Slip("weight: 80", "weight: -80", "-80", f"{HTTP}[0].route[0].weight", "at least 0"),
    Slip(
        "weight: 80\n    - destination: {host: order, subset: v2}\n      weight: 20",
        "weight: 0\n    - destination: {host: order, subset: v2}",
        "    route:\n    - destination: {host: order, subset: v1",
        f"{HTTP}[0].route",
        "add up to 0",
    ),
    Slip("{value: 33}", "{value: 330}", "330", f"{HTTP}[1].fault.abort.percentage.value", "from 0 to 100"),
    Slip("{value: 7.5}", "{value: -7.5}", "-7.5", f"{HTTP}[0].mirrorPercentage.value", "from 0 to 100"),
    Slip("httpStatus: 503", "httpStatus: 99", "99", f"{HTTP}[1].fault.abort.httpStatus", "from 200 to 599"),
    Slip("attempts: 2, ", "", "retryOn", f"{HTTP}[0].retries.attempts", "which means 0"),
    Slip('"5xx,reset"', '"5xx, reset"', "5xx, reset", f"{HTTP}[0].retries.retryOn", "without the space"),
    Slip(
        '"5xx,reset"',
        '"5xx,connection-failure"',
        "connection-failure",
        f"{HTTP}[0].retries.retryOn",
        "did you mean `connect-failure`?",
    ),
    Slip(
        "redirectCode: 301", "redirectCode: 200", "redirectCode", f"{HTTP}[2].redirect.redirectCode", "from 300 to 399"
    ),
    Slip(
        "rewrite: {uri: /}",
        "redirect: {uri: /}",
        "    route:\n    - destination: {host: payment",
        f"{HTTP}[4].route",
        "both `redirect` and `route`",
    ),
    Slip("rewrite: {uri: /}", "rewrite: {}", "rewrite: {}", f"{HTTP}[4].rewrite", "the rewrite is empty"),
    Slip("    route:\n    - destination: {host: order}\n", "", "- name: broken", f"{HTTP}[1].route", "is missing"),
    Slip("[POST]", "[post]", "[post]", f"{HTTP}[0].corsPolicy.allowMethods[0]", "did you mean `POST`?"),
    Slip(
        'regex: "yes|true"',
        'regex: "(?!no).*"',
        "(?!no)",
        f"{HTTP}[0].match[0].headers.x-canary.regex",
        "a negative lookahead",
    ),
    Slip(
        'regex: "yes|true"',
        'regex: "*yes"',
        '"*yes"',
        f"{HTTP}[0].match[0].headers.x-canary.regex",
        "nothing before it to repeat",
    ),
    Slip('regex: "yes|true"', 'regex: "(yes"', '"(yes"', f"{HTTP}[0].match[0].headers.x-canary.regex", "never closed"),
    Slip(
        "maxEjectionPercent: 50",
        "maxEjectionPercent: 150",
        "Percent: 150",
        f"{DR}.outlierDetection.maxEjectionPercent",
        "from 0 to 100",
    ),
    Slip(
        "connectTimeout: 30ms",
        "connectTimeout: 1500us",
        "1500us",
        f"{DR}.connectionPool.tcp.connectTimeout",
        "whole milliseconds",
    ),
    Slip("protocol: HTTP2", "protocol: HTP", "HTP", "spec.servers[0].port.protocol", "did you mean `HTTP`?"),
    Slip("protocol: HTTP2", "protocol: HTTPS", "- port: {number: 18080", "spec.servers[0].tls", "is missing"),
    Slip("bind: 127.0.0.9", "bind: localhost", "localhost", "spec.servers[0].bind", "an IP address"),
    Slip("127.0.0.2,", "localhost,", "localhost", "spec.endpoints[1].address", "`resolution: DNS` accepts names"),
    Slip(
        "payment.lab.test}",
        "payment.lab.test:80}",
        "lab.test:80",
        "spec.endpoints[0].address",
        "the port belongs in `ports`",
    ),
    Slip("{http: 18102}", "{htpp: 18102}", "htpp", "spec.endpoints[1].ports.htpp", "did you mean `http`?"),
    Slip('["shop.lab.test"]', '["http://shop.lab.test"]', "http://", "spec.hosts[0]", "expected a host"),
    Slip(
        "  - name: v2\n    labels",
        "  - name: v1\n    labels",
        "  - name: v1\n    labels: {version: v2}",
        "spec.subsets[1].name",
        "occurs twice",
    ),
    # references to missing objects
    Slip(
        "destination: {host: order}",
        "destination: {host: ordr}",
        "ordr}",
        f"{HTTP}[1].route[0].destination.host",
        "did you mean `order`?",
    ),
    Slip(
        "destination: {host: order}",
        "destination: {host: order.default}",
        "order.default}",
        f"{HTTP}[1].route[0].destination.host",
        "no ServiceEntry has the host",
    ),
    Slip("subset: v2", "subset: v3", "v3", f"{HTTP}[0].route[1].destination.subset", "it has `v1`, `v2`"),
    Slip(
        "{number: 8000}}",
        "{number: 8080}}",
        "8080}}",
        f"{HTTP}[0].route[0].destination.port.number",
        "no port 8080; it has 8000 (http)",
    ),
    Slip(
        ", port: {number: 8443}",
        "",
        "host: payment}",
        f"{HTTP}[4].route[0].destination.port",
        "has the ports 8443 (web), 9443 (admin)",
    ),
    Slip(
        "mirror: {host: payment",
        "mirror: {host: shipping",
        "shipping",
        f"{HTTP}[0].mirror.host",
        "no ServiceEntry has the host",
    ),
    Slip(
        "gateways: [lab-gateway]",
        "gateways: [lab-gatway]",
        "lab-gatway",
        "spec.gateways[0]",
        "did you mean `lab-gateway`?",
    ),
    Slip(
        "gateways: [lab-gateway]",
        "gateways: [istio-system/lab-gateway]",
        "istio-system",
        "spec.gateways[0]",
        "in namespace istio-system",
    ),
    Slip("  host: order\n", "  host: orders\n", "host: orders", "spec.host", "did you mean `order`?"),
    Slip(
        "name: payment,",
        "name: order,",
        "{name: order, namespace: default}\nspec:\n  hosts: [payment",
        "metadata.name",
        "duplicate ServiceEntry",
    ),
]

WARNINGS = [
    Slip("{percentage: {value: 33}, ", "{", "httpStatus", f"{HTTP}[1].fault.abort.percentage", "never fires"),
    Slip("{percentage: {value: 44}, ", "{", "fixedDelay", f"{HTTP}[1].fault.delay.percentage", "never fires"),
    Slip("    fault:\n", "    retries: {attempts: 3}\n    fault:\n", "fault:", f"{HTTP}[1].fault", "never retries"),
    Slip(
        "perTryTimeout: 1s",
        "perTryTimeout: 5s",
        "5s",
        f"{HTTP}[0].retries.perTryTimeout",
        "longer than the whole timeout",
    ),
    Slip(
        "- uri: {prefix: /old}", "- uri: {prefix: /}", "uri: {prefix: /hello}", f"{HTTP}[3].match[0]", "never reached"
    ),
    Slip("      weight: 80\n", "", "subset: v1, port", f"{HTTP}[0].route[0].weight", "counts as 0"),
    Slip("  gateways: [lab-gateway]\n", "", 'spec:\n  hosts: ["shop', "spec.gateways", "names no gateway"),
    Slip("{istio: ingressgateway}", "{istio: ingress}", "istio: ingress}", "spec.selector", "does not select"),
    Slip(
        "labels: {version: v2}\n---",
        "labels: {version: v3}\n---",
        "v3}\n---",
        "spec.subsets[1].labels",
        "no endpoint of `order` has the labels version: v3",
    ),
    Slip(
        'hosts: ["*"]',
        'hosts: ["*.shop.test"]',
        '"shop.lab.test"',
        "spec.hosts[0]",
        "none of the gateways of this VirtualService serves",
    ),
    Slip("{exact: GET}", "{exact: get}", "{exact: get}", f"{HTTP}[0].match[0].method.exact", "methods are uppercase"),
    Slip(
        "{prefix: /old}",
        "{prefix: old}",
        "{prefix: old}",
        f"{HTTP}[2].match[0].uri.prefix",
        "every path starts with `/`",
    ),
    Slip(
        "hosts: [payment.default.svc.cluster.local]",
        "hosts: [payment, payment.default.svc.cluster.local]",
        "[payment,",
        "spec.hosts[0]",
        "has no dot",
    ),
    Slip("{httpHeaderName: x-user}", "{}", "consistentHash", f"{DR}.loadBalancer.consistentHash", "has no hash key"),
]

YAML = [
    Slip("  http:\n", "\thttp:\n", "\thttp", "", "a tab"),
    Slip("    timeout: 4s", "     timeout: 4s", "timeout: 4s", "", "indented"),
    Slip("timeout: 4s", "timeout:4s", "timeout:4s", "", "no space after its `:`"),
    Slip(
        "weight: 80",
        "weight: 80\n      weight: 81",
        "weight: 81",
        "",
        "`weight` occurs twice in one mapping: here and on line",
    ),
    Slip('hosts: ["*"]', "hosts: [*]", "hosts: [*]", "", "write it as"),
    Slip("host: order, subset: v2}", "host: order, subset: v2", "weight: 20", "", "expected `,` or `}`"),
    Slip('regex: "yes|true"', 'regex: "\\d+"', "\\d+", "", "use single quotes"),
    Slip("weight: 80", "weight: *eighty", "*eighty", "", "no anchor `&eighty`"),
    Slip("weight: 80", "weight: !percent 80", "!percent", "", "the tag `!percent`"),
    Slip("kind: Gateway\n", "", "v1\nmetadata: {name: lab-gateway", "kind", "is missing"),
    Slip("kind: Gateway\n", "knd: Gateway\n", "knd", "knd", "did you mean `kind`?"),
    Slip(
        "v1\nkind: Gateway",
        "1\nkind: Gateway\napiversion: x",
        "apiVersion: networking.istio.io/1",
        "apiVersion",
        "has no version",
    ),
    Slip("metadata: {name: shop, namespace: default}\n", "", "v1\nkind: VirtualService", "metadata", "is missing"),
    Slip(
        "{name: shop, namespace: default}",
        "{namespace: default}",
        "metadata: {namespace",
        "metadata.name",
        "is missing",
    ),
    Slip(
        "{name: shop, namespace: default}", "{name: 5}", "name: 5", "metadata.name", "expected a string, found a number"
    ),
]


def slipped(slip: Slip) -> tuple[str, int]:
    """Return the configuration with a slip, and the line on which it must be reported."""
    assert VALID.count(slip.old) == 1, f"{slip.old!r} stands {VALID.count(slip.old)} times"
    text = VALID.replace(slip.old, slip.new)
    assert text.count(slip.at) == 1, f"{slip.at!r} stands {text.count(slip.at)} times"
    return text, text.count("\n", 0, text.index(slip.at)) + 1
