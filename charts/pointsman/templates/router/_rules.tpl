{{/* What the router reads in the namespaces it watches. It writes nothing. */}}
{{- define "pointsman.routerRules" -}}
- apiGroups: [pointsman.io]
  resources: [modelservices]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
{{- end }}
