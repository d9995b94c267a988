{{/*
Rights in every watched namespace, or in all of them. Arguments: component, name of the template with the rules, of that
with the rules outside of namespaces or "", root.
*/}}
{{- define "pointsman.rbac" -}}
{{- $component := index . 0 }}{{ $rules := index . 1 }}{{ $clusterRules := index . 2 }}{{ $root := index . 3 -}}
{{- $name := printf "%s-%s" (include "pointsman.fullname" $root) $component -}}
{{- $clusterName := printf "%s-%s" (include "pointsman.clusterName" $root) $component -}}
{{- $namespaces := include "pointsman.namespaces" $root | fromJsonArray -}}
{{- range $namespaces }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ ternary $name $clusterName (eq . $root.Release.Namespace) }}
  namespace: {{ . }}
  labels:
    {{- include "pointsman.labels" (list $component $root) | nindent 4 }}
rules:
  {{- include $rules $root | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ ternary $name $clusterName (eq . $root.Release.Namespace) }}
  namespace: {{ . }}
  labels:
    {{- include "pointsman.labels" (list $component $root) | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ ternary $name $clusterName (eq . $root.Release.Namespace) }}
subjects:
  - kind: ServiceAccount
    name: {{ $name }}
    namespace: {{ $root.Release.Namespace }}
{{- end }}
{{- if or (not $namespaces) $clusterRules }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ $clusterName }}
  labels:
    {{- include "pointsman.labels" (list $component $root) | nindent 4 }}
rules:
  {{- if not $namespaces }}
  {{- include $rules $root | nindent 2 }}
  {{- end }}
  {{- if $clusterRules }}
  {{- include $clusterRules $root | nindent 2 }}
  {{- end }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ $clusterName }}
  labels:
    {{- include "pointsman.labels" (list $component $root) | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ $clusterName }}
subjects:
  - kind: ServiceAccount
    name: {{ $name }}
    namespace: {{ $root.Release.Namespace }}
{{- end }}
{{- end }}
