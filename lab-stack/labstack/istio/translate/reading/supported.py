"""All fields that the translator supports. It rejects any other field, by name and line."""

from __future__ import annotations

from labstack.istio.model.protocols import HTTP, PROTOCOLS
from labstack.istio.translate.reading.shapes import (
    INT32,
    UINT32,
    UINT64,
    Bytes,
    Choice,
    Duration,
    Flag,
    Float,
    ListOf,
    MapOf,
    Message,
    NotSupported,
    Protocols,
    Shape,
    Text,
)

TEXT, FLAG, REAL, SPAN = Text(), Flag(), Float(), Duration()
TEXTS, LABELS = ListOf(TEXT), MapOf(TEXT)
PORT = Message({"number": UINT32})
NO_TLS = NotSupported("use plain HTTP")
NO_SELECTOR = NotSupported("the lab's services are not workloads of a cluster; remove it")

HTTP_ONLY = Protocols(HTTP, PROTOCOLS - HTTP)
ANY_PROTOCOL = Protocols(PROTOCOLS | {""}, frozenset())

# --- Gateway ---

SERVER = Message(
    {
        "port": Message(
            {"number": UINT32, "name": TEXT, "protocol": HTTP_ONLY, "targetPort": NotSupported("Istio ignores it")}
        ),
        "bind": TEXT,
        "hosts": TEXTS,
        "name": TEXT,
        "tls": NO_TLS,
        "defaultEndpoint": NotSupported(),
    }
)
GATEWAY = Message({"servers": ListOf(SERVER), "selector": LABELS})

# --- VirtualService ---

STRING_MATCH = Message({"exact": TEXT, "prefix": TEXT, "regex": TEXT}, one_of=(("exact", "prefix", "regex"),))
DESTINATION = Message({"host": TEXT, "subset": TEXT, "port": PORT})
CLAIMS = "@request.auth.claims"
PERCENT = Message({"value": REAL})
HEADER_OPERATIONS = Message({"set": LABELS, "add": LABELS, "remove": TEXTS})
HEADERS = Message({"request": HEADER_OPERATIONS, "response": HEADER_OPERATIONS})

MATCH = Message(
    {
        "name": TEXT,
        "uri": STRING_MATCH,
        "scheme": STRING_MATCH,
        "method": STRING_MATCH,
        "authority": STRING_MATCH,
        "headers": MapOf(STRING_MATCH, unsupported=CLAIMS),
        "withoutHeaders": MapOf(STRING_MATCH, unsupported=CLAIMS),
        "queryParams": MapOf(STRING_MATCH),
        "ignoreUriCase": FLAG,
        "port": UINT32,
        "gateways": TEXTS,
        "sourceLabels": LABELS,
        "sourceNamespace": TEXT,
        "statPrefix": TEXT,
    }
)
REDIRECT = Message(
    {
        "uri": TEXT,
        "authority": TEXT,
        "scheme": TEXT,
        "port": UINT32,
        "derivePort": Choice(("FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT")),
        "redirectCode": UINT32,
    },
    one_of=(("port", "derivePort"),),
)
DIRECT_RESPONSE = Message(
    {"status": UINT32, "body": Message({"string": TEXT, "bytes": Bytes()}, one_of=(("string", "bytes"),))}
)
REWRITE = Message({"uri": TEXT, "authority": TEXT, "uriRegexRewrite": Message({"match": TEXT, "rewrite": TEXT})})
RETRIES = Message(
    {
        "attempts": INT32,
        "perTryTimeout": SPAN,
        "retryOn": TEXT,
        "retryRemoteLocalities": FLAG,
        "retryIgnorePreviousHosts": FLAG,
        "backoff": SPAN,
    }
)
FAULT = Message(
    {
        "delay": Message(
            {
                "percent": INT32,
                "percentage": PERCENT,
                "fixedDelay": SPAN,
                "exponentialDelay": NotSupported("use fixedDelay"),
            },
        ),
        "abort": Message(
            {
                "percentage": PERCENT,
                "httpStatus": INT32,
                "grpcStatus": TEXT,
                "http2Error": NotSupported("use httpStatus"),
            },
            one_of=(("httpStatus", "grpcStatus"),),
        ),
    }
)
CORS = Message(
    {
        "allowOrigin": TEXTS,
        "allowOrigins": ListOf(STRING_MATCH),
        "allowMethods": TEXTS,
        "allowHeaders": TEXTS,
        "exposeHeaders": TEXTS,
        "maxAge": SPAN,
        "allowCredentials": FLAG,
        "unmatchedPreflights": Choice(("UNSPECIFIED", "FORWARD", "IGNORE")),
    }
)
HTTP_ROUTE = Message(
    {
        "name": TEXT,
        "match": ListOf(MATCH),
        "route": ListOf(Message({"destination": DESTINATION, "weight": INT32, "headers": HEADERS})),
        "redirect": REDIRECT,
        "directResponse": DIRECT_RESPONSE,
        "rewrite": REWRITE,
        "timeout": SPAN,
        "retries": RETRIES,
        "fault": FAULT,
        "mirror": DESTINATION,
        "mirrorPercent": UINT32,
        "mirror_percent": UINT32,
        "mirrorPercentage": PERCENT,
        "mirrors": ListOf(Message({"destination": DESTINATION, "percentage": PERCENT})),
        "corsPolicy": CORS,
        "headers": HEADERS,
        "delegate": NotSupported("write the routes into this VirtualService"),
    },
    one_of=(("mirrorPercent", "mirror_percent"),),
)
VIRTUAL_SERVICE = Message(
    {
        "hosts": TEXTS,
        "gateways": TEXTS,
        "http": ListOf(HTTP_ROUTE),
        "exportTo": TEXTS,
        "tcp": NotSupported("use http"),
        "tls": NotSupported("use http"),
    }
)

# --- DestinationRule ---

CONNECTION_POOL = Message(
    {
        "tcp": Message(
            {
                "maxConnections": INT32,
                "connectTimeout": SPAN,
                "tcpKeepalive": Message({"probes": UINT32, "time": SPAN, "interval": SPAN}),
                "maxConnectionDuration": SPAN,
                "idleTimeout": SPAN,
            }
        ),
        "http": Message(
            {
                "http1MaxPendingRequests": INT32,
                "http2MaxRequests": INT32,
                "maxRequestsPerConnection": INT32,
                "maxRetries": INT32,
                "idleTimeout": SPAN,
                "h2UpgradePolicy": Choice(("DEFAULT", "DO_NOT_UPGRADE", "UPGRADE")),
                "useClientProtocol": FLAG,
                "maxConcurrentStreams": INT32,
            }
        ),
    }
)
CONSISTENT_HASH = Message(
    {
        "httpHeaderName": TEXT,
        "httpCookie": Message(
            {"name": TEXT, "path": TEXT, "ttl": SPAN, "attributes": ListOf(Message({"name": TEXT, "value": TEXT}))}
        ),
        "useSourceIp": FLAG,
        "httpQueryParameterName": TEXT,
        "ringHash": Message({"minimumRingSize": UINT64}),
        "maglev": Message({"tableSize": UINT64}),
        "minimumRingSize": UINT64,
    },
    one_of=(("httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"), ("ringHash", "maglev")),
)
NO_LOCALITY = NotSupported("only `enabled` is supported")
LOAD_BALANCER = Message(
    {
        "simple": Choice(("UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST")),
        "consistentHash": CONSISTENT_HASH,
        "localityLbSetting": Message(
            {"enabled": FLAG, "distribute": NO_LOCALITY, "failover": NO_LOCALITY, "failoverPriority": NO_LOCALITY}
        ),
        "warmupDurationSecs": SPAN,
        "warmup": Message({"duration": SPAN, "minimumPercent": REAL, "aggression": REAL}),
    },
    one_of=(("simple", "consistentHash"),),
)
OUTLIER_DETECTION = Message(
    {
        "splitExternalLocalOriginErrors": FLAG,
        "consecutiveLocalOriginFailures": UINT32,
        "consecutiveGatewayErrors": UINT32,
        "consecutive5xxErrors": UINT32,
        "consecutiveErrors": INT32,
        "interval": SPAN,
        "baseEjectionTime": SPAN,
        "maxEjectionPercent": INT32,
        "minHealthPercent": INT32,
    }
)
POLICY: dict[str, Shape] = {
    "loadBalancer": LOAD_BALANCER,
    "connectionPool": CONNECTION_POOL,
    "outlierDetection": OUTLIER_DETECTION,
    "tls": NO_TLS,
}
TRAFFIC_POLICY = Message(
    {
        **POLICY,
        "portLevelSettings": ListOf(Message({**POLICY, "port": PORT})),
        "tunnel": NotSupported(),
        "proxyProtocol": NotSupported(),
        "retryBudget": Message({"percent": REAL, "minRetryConcurrency": UINT32}),
    }
)
DESTINATION_RULE = Message(
    {
        "host": TEXT,
        "trafficPolicy": TRAFFIC_POLICY,
        "subsets": ListOf(Message({"name": TEXT, "labels": LABELS, "trafficPolicy": TRAFFIC_POLICY})),
        "exportTo": TEXTS,
        "workloadSelector": NO_SELECTOR,
    }
)

# --- ServiceEntry ---

SERVICE_ENTRY = Message(
    {
        "hosts": TEXTS,
        "addresses": TEXTS,
        "ports": ListOf(Message({"number": UINT32, "name": TEXT, "protocol": ANY_PROTOCOL, "targetPort": UINT32})),
        "location": Choice(("MESH_EXTERNAL", "MESH_INTERNAL")),
        "resolution": Choice(("NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"), unsupported=("DYNAMIC_DNS",)),
        "endpoints": ListOf(
            Message(
                {
                    "address": TEXT,
                    "ports": MapOf(UINT32),
                    "labels": LABELS,
                    "locality": TEXT,
                    "weight": UINT32,
                    "network": NotSupported(),
                    "serviceAccount": NotSupported(),
                }
            )
        ),
        "exportTo": TEXTS,
        "subjectAltNames": NotSupported(),
        "workloadSelector": NO_SELECTOR,
    }
)

KINDS = {
    "Gateway": GATEWAY,
    "VirtualService": VIRTUAL_SERVICE,
    "DestinationRule": DESTINATION_RULE,
    "ServiceEntry": SERVICE_ENTRY,
}
API_VERSIONS = {f"networking.istio.io/{version}" for version in ("v1", "v1beta1", "v1alpha3")}
