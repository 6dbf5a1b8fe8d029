{{/*
Names don't carry the release's name: the custom resource definitions and the operator are one per cluster, and a second
release must fail on Helm's ownership check instead of starting a second operator.
*/}}
{{- define "tapchanger.name" -}}
tapchanger-{{ .component }}
{{- end }}

{{- define "tapchanger.selectorLabels" -}}
app.kubernetes.io/name: tapchanger
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Without versions: a pod restarts when its image or settings change, not when the chart does. */}}
{{- define "tapchanger.podLabels" -}}
{{ include "tapchanger.selectorLabels" . }}
app.kubernetes.io/part-of: tapchanger
{{- end }}

{{- define "tapchanger.labels" -}}
{{ include "tapchanger.podLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The reference of one image, or an error that says what to do. */}}
{{- define "tapchanger.image" -}}
{{- $image := get .root.Values.images .name -}}
{{- if not $image -}}
{{- fail (printf "images.%s is empty: give an image reference with a tag or a digest, such as --set images.%s=REGISTRY/tapchanger/%s@sha256:DIGEST (docs/install.md tells how to build and push the images)" .name .name .name) -}}
{{- end -}}
{{- $image -}}
{{- end }}

{{- define "tapchanger.observerHost" -}}
{{ include "tapchanger.name" (dict "component" "observer") }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end }}

{{/* Where routers and servers send their spans. */}}
{{- define "tapchanger.spansHost" -}}
{{- if .Values.telemetry.spansHost -}}
{{ .Values.telemetry.spansHost }}
{{- else if .Values.telemetry.collector.enabled -}}
{{ include "tapchanger.name" (dict "component" "collector") }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end -}}
{{- end }}

{{/* The address of Prometheus, or an error that says what to write; empty where the observer's counts decide. */}}
{{- define "tapchanger.prometheusUrl" -}}
{{- if eq .Values.telemetry.source "Prometheus" -}}
{{- if not (hasPrefix "http" .Values.telemetry.prometheus.url) -}}
{{- fail (printf "telemetry.source is Prometheus and telemetry.prometheus.url is %q: give its address, such as --set telemetry.prometheus.url=http://prometheus.monitoring:9090" .Values.telemetry.prometheus.url) -}}
{{- end -}}
{{- if not (include "tapchanger.spansHost" .) -}}
{{- fail "telemetry.source is Prometheus, but spans go to the observer: set telemetry.collector.enabled=true, or telemetry.spansHost to your own Collector" -}}
{{- end -}}
{{- .Values.telemetry.prometheus.url -}}
{{- end -}}
{{- end }}

{{/* The URI of a store elsewhere, or an error that says what to write; empty for volumes. */}}
{{- define "tapchanger.storeUri" -}}
{{- $schemes := dict "S3" "s3://" "OCI" "oci://" -}}
{{- $scheme := get $schemes .Values.store.type -}}
{{- if and $scheme (not (hasPrefix $scheme .Values.store.uri)) -}}
{{- fail (printf "store.type is %s and store.uri is %q: give an address that begins with %s, such as --set store.uri=%s" .Values.store.type .Values.store.uri $scheme (ternary "s3://BUCKET/PREFIX" "oci://REGISTRY/REPOSITORY" (eq .Values.store.type "S3"))) -}}
{{- end -}}
{{- if and (not $scheme) .Values.store.uri -}}
{{- fail "store.uri is set and store.type is Volume: set store.type=S3 or store.type=OCI, or leave store.uri empty" -}}
{{- end -}}
{{- .Values.store.uri -}}
{{- end }}

{{- define "tapchanger.observerAuth" -}}
{{ ternary "required" "open" .Values.observer.auth.required }}
{{- end }}

{{/* Pod spec fields that both workloads take from their values. */}}
{{- define "tapchanger.scheduling" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* Egress that every component needs: names. */}}
{{- define "tapchanger.dnsEgress" -}}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end }}
