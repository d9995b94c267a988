"""The matrix of values that renderings are checked over."""

from typing import Any

GATEWAY = "gateway.networking.k8s.io/v1"
MONITORING = "monitoring.coreos.com/v1"

MODELS = [{"name": "tiny", "instances": [{"url": "http://engine:8000"}]}]

EVERYTHING: dict[str, Any] = {
    "fullnameOverride": "pm",
    "image": {
        "repository": "registry.example/pointsman",
        "digest": "sha256:" + "0" * 64,
        "pullPolicy": "Always",
    },
    "imagePullSecrets": [{"name": "registry"}],
    "watch": {"namespaces": ["home", "team-a"]},
    "operator": {
        "replicas": 3,
        "logLevel": "debug",
        "extraEnv": [{"name": "SOME", "value": "thing"}],
        "podAnnotations": {"example.com/a": "b"},
        "podLabels": {"example.com/team": "serving"},
        "serviceAccount": {"annotations": {"example.com/role": "operator"}},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "serving", "operator": "Exists"}],
        "priorityClassName": "system-cluster-critical",
    },
    "router": {
        "autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 20, "targetCpuPercent": 50},
        "config": {"queue": {"max_requests": 64}, "open_access": {"max_priority": 3}, "log_level": "debug"},
        "files": [{"secret": "engine-key", "key": "key", "path": "engine.key"}],
        "keys": {"existingSecret": "our-keys"},
        "tls": {"secretName": "router-tls"},
        "service": {
            "type": "LoadBalancer",
            "port": 443,
            "annotations": {"example.com/lb": "internal"},
            "loadBalancerClass": "example.com/internal",
            "externalTrafficPolicy": "Local",
        },
        "httpRoute": {
            "enabled": True,
            "parentRefs": [{"name": "gateway", "namespace": "gateways"}],
            "hostnames": ["llm.example.com"],
        },
        "podAnnotations": {"example.com/a": "b"},
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {
                            "matchExpressions": [
                                {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]}
                            ]
                        }
                    ]
                }
            }
        },
    },
    "redis": {
        "persistence": {"enabled": True, "size": "4Gi", "storageClass": "fast"},
        "auth": {"existingSecret": "redis-auth"},
    },
    "monitoring": {
        "podMonitor": {"labels": {"release": "prometheus"}},
        "prometheusRule": {"ttftSeconds": 2.5},
    },
    "networkPolicy": {
        "routerFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "gateways"}}}],
        "metricsFrom": [
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
        ],
    },
}

# Name -> values and optional APIs that are there.
CASES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "default": ({}, ()),
    "cluster-wide": ({"watch": {"clusterWide": True}}, ()),
    "several-namespaces": ({"watch": {"namespaces": ["team-a", "team-b"]}}, ()),
    "models-of-its-own": ({"router": {"config": {"models": MODELS}}}, ()),
    "autoscaling": ({"router": {"autoscaling": {"enabled": True}}}, ()),
    "external-redis": ({"redis": {"external": {"url": "rediss://user:pass@redis.example:6380/1"}}}, ()),
    "external-redis-in-a-secret": ({"redis": {"external": {"existingSecret": "redis-url"}}}, ()),
    "no-redis": ({"redis": {"enabled": False}}, ()),
    "redis-that-remembers": ({"redis": {"persistence": {"enabled": True}}}, ()),
    "one-replica-of-each": ({"operator": {"replicas": 1}, "router": {"replicas": 1}}, ()),
    "users-of-the-cluster's-choice": (
        {"podSecurity": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}},
        (),
    ),
    "bare": (
        {
            "crds": {"install": False},
            "monitoring": {"dashboards": {"enabled": False}},
            "networkPolicy": {"enabled": False},
            "operator": {"podDisruptionBudget": {"enabled": False}},
            "redis": {"enabled": False},
            "router": {"podDisruptionBudget": {"enabled": False}, "topologySpread": False},
        },
        (),
    ),
    "everything": (EVERYTHING, (GATEWAY, MONITORING)),
}
