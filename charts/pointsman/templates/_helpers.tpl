{{- define "pointsman.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Short enough that every suffix fits into 63 characters. */}}
{{- define "pointsman.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "pointsman.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "pointsman.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Name of what is not in a namespace: two releases of one name in two namespaces must not meet. */}}
{{- define "pointsman.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "pointsman.fullname" .) }}
{{- end }}

{{/* Arguments: a component's name and the root. */}}
{{- define "pointsman.selector" -}}
{{- $component := index . 0 }}{{ $root := index . 1 -}}
app.kubernetes.io/name: {{ include "pointsman.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ $component }}
{{- end }}

{{- define "pointsman.labels" -}}
{{- $component := index . 0 }}{{ $root := index . 1 -}}
{{ include "pointsman.selector" . }}
app.kubernetes.io/part-of: pointsman
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Arguments: an image's values and the tag where they name none. */}}
{{- define "pointsman.image" -}}
{{- $image := index . 0 }}{{ $tag := index . 1 -}}
{{- if $image.digest }}
{{- printf "%s@%s" $image.repository $image.digest }}
{{- else }}
{{- printf "%s:%s" $image.repository (default $tag $image.tag) }}
{{- end }}
{{- end }}

{{- define "pointsman.podSecurity" -}}
runAsNonRoot: true
{{- range $name := list "runAsUser" "runAsGroup" "fsGroup" }}
{{- $id := dig $name nil $.Values.podSecurity }}
{{- if not (kindIs "invalid" $id) }}
{{ $name }}: {{ int64 $id }}
{{- end }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "pointsman.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Replicas apart, where there are several nodes. Arguments: component, its values, root. */}}
{{- define "pointsman.placement" -}}
{{- $component := index . 0 }}{{ $values := index . 1 }}{{ $root := index . 2 -}}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
affinity:
{{- if $values.affinity }}
  {{- toYaml $values.affinity | nindent 2 }}
{{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "pointsman.selector" (list $component $root) | nindent 14 }}
{{- end }}
{{- end }}

{{/* Namespaces that are watched, as a JSON list; empty for all. */}}
{{- define "pointsman.namespaces" -}}
{{- if .Values.watch.clusterWide -}}
[]
{{- else -}}
{{- default (list .Release.Namespace) .Values.watch.namespaces | uniq | sortAlpha | toJson -}}
{{- end -}}
{{- end }}

{{/* Pods of instances: those that answer, and the other nodes of instances that span several, which must reach each other. */}}
{{- define "pointsman.engineSelector" -}}
matchLabels:
  app.kubernetes.io/managed-by: pointsman
matchExpressions:
  - key: app.kubernetes.io/component
    operator: In
    values: [engine, engine-worker]
{{- end }}

{{/* The router's pods, as engines' policies let them in. */}}
{{- define "pointsman.routerPeer" -}}
namespaceSelector:
  matchLabels:
    kubernetes.io/metadata.name: {{ .Release.Namespace }}
podSelector:
  matchLabels:
    {{- include "pointsman.selector" (list "router" .) | nindent 4 }}
{{- end }}

{{/* Whether the operator writes engines' policies: only it knows which namespaces there will be. */}}
{{- define "pointsman.operatorWritesPolicies" -}}
{{- if and .Values.networkPolicy.enabled .Values.watch.clusterWide }}true{{ end }}
{{- end }}

{{/* A generated value that stays what it was. Arguments: Secret's name, key, root. */}}
{{- define "pointsman.kept" -}}
{{- $name := index . 0 }}{{ $key := index . 1 }}{{ $root := index . 2 -}}
{{- $found := lookup "v1" "Secret" $root.Release.Namespace $name -}}
{{- $data := default dict (get $found "data") -}}
{{- if hasKey $data $key -}}
{{- get $data $key | b64dec -}}
{{- else -}}
{{- randAlphaNum 40 -}}
{{- end -}}
{{- end }}

{{- define "pointsman.routerKeys" -}}
{{- default (printf "%s-router-keys" (include "pointsman.fullname" .)) .Values.router.keys.existingSecret }}
{{- end }}

{{/* Whether ModelServices are looked for. A router with models of its own and no more needs nothing of the API server. */}}
{{- define "pointsman.discovers" -}}
{{- if or (not .Values.router.config.models) .Values.router.config.kubernetes }}true{{ end }}
{{- end }}

{{/* The router's configuration file. */}}
{{- define "pointsman.routerConfig" -}}
{{- $folder := "/etc/pointsman" -}}
{{- $listen := dict "host" "0.0.0.0" "port" 8080 -}}
{{- if .Values.router.tls.secretName -}}
{{- $_ := set $listen "tls" (dict "certificate" (printf "%s/tls/tls.crt" $folder) "key" (printf "%s/tls/tls.key" $folder)) -}}
{{- end -}}
{{- $config := dict
    "listen" $listen
    "admin" (dict "host" "0.0.0.0" "port" 8081 "token_file" (printf "%s/keys/admin-token" $folder))
    "prompts" (dict "hash_key_file" (printf "%s/keys/prefix-hash-key" $folder))
    "drain_delay_s" .Values.router.drain.delaySeconds
    "drain_grace_s" .Values.router.drain.graceSeconds -}}
{{- if include "pointsman.discovers" . -}}
{{- $namespaces := include "pointsman.namespaces" . | fromJsonArray -}}
{{- $_ := set $config "kubernetes" (dict "namespaces" $namespaces) -}}
{{- end -}}
{{- mergeOverwrite $config (deepCopy .Values.router.config) | toYaml }}
{{- end }}

{{/* Name and key of the Secret with the URL of the shared state's Redis; empty when there is none. */}}
{{- define "pointsman.redisSecret" -}}
{{- $redis := .Values.redis -}}
{{- if $redis.external.existingSecret -}}
{{- $redis.external.existingSecret -}}
{{- else if or $redis.external.url (and $redis.enabled (not $redis.auth.existingSecret)) -}}
{{- include "pointsman.fullname" . }}-redis
{{- else if $redis.enabled -}}
{{- $redis.auth.existingSecret -}}
{{- end -}}
{{- end }}

{{/* Whether the release runs a Redis of its own. */}}
{{- define "pointsman.bundlesRedis" -}}
{{- if and .Values.redis.enabled (not .Values.redis.external.url) (not .Values.redis.external.existingSecret) }}true{{ end }}
{{- end }}
