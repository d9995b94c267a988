{{/* What the operator does in the namespaces it watches: nothing more, and a test holds it against the API's audit log. */}}
{{- define "pointsman.operatorRules" -}}
- apiGroups: [pointsman.io]
  resources: [modelservices]
  verbs: [get, list, watch, patch]
- apiGroups: [pointsman.io]
  resources: [instancepools]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [pointsman.io]
  resources: [modelservices/status, instancepools/status]
  verbs: [patch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [leaderworkerset.x-k8s.io]
  resources: [leaderworkersets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, configmaps]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch]
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* What is not in any namespace. */}}
{{- define "pointsman.operatorClusterRules" -}}
- apiGroups: [pointsman.io]
  resources: [engineprofiles]
  verbs: [get, list, watch]
{{- end }}
