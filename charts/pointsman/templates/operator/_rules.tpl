{{/* What the operator does in the namespaces it watches: what `pointsman.controller.roles` says, and nothing more. */}}
{{- define "pointsman.operatorRules" -}}
- apiGroups: [pointsman.io]
  resources: [modelservices]
  verbs: [list, watch]
- apiGroups: [pointsman.io]
  resources: [modelservices/status]
  verbs: [patch]
- apiGroups: [pointsman.io]
  resources: [modelservices/finalizers]
  verbs: [update]
- apiGroups: [pointsman.io]
  resources: [instancepools]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [pointsman.io]
  resources: [instancepools/status]
  verbs: [patch]
- apiGroups: [pointsman.io]
  resources: [instancepools/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [leaderworkerset.x-k8s.io]
  resources: [leaderworkersets]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [controllerrevisions]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list, watch, create, patch]
{{- if include "pointsman.operatorWritesPolicies" . }}
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [list, watch, create, patch]
{{- end }}
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* What is not in any namespace. */}}
{{- define "pointsman.operatorClusterRules" -}}
- apiGroups: [pointsman.io]
  resources: [engineprofiles]
  verbs: [list, watch]
{{- end }}

{{/* At home: its Lease, and the router pods that it asks what they have loaded. */}}
{{- define "pointsman.operatorHomeRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, update]
  resourceNames: [{{ include "pointsman.fullname" . }}-operator]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
{{- end }}
