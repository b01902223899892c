{{/* The facts of the lab that all backends share. */}}
{{- define "saga.lab" -}}
{{ .Files.Get "files/lab.yaml" }}
{{- end }}

{{- define "saga.labels" -}}
app.kubernetes.io/part-of: saga-lab
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{/* Labels of a component: list of the root and the component's name. */}}
{{- define "saga.component" -}}
app.kubernetes.io/name: {{ index . 1 }}
{{ include "saga.labels" (index . 0) }}
{{- end }}

{{/* An image: list of the root and its name in `images`. */}}
{{- define "saga.image" -}}
{{- $lab := include "saga.lab" (index . 0) | fromYaml -}}
{{- get (index . 0).Values.images (index . 1) | default (get $lab.images (index . 1)) -}}
{{- end }}

{{- define "saga.pullSecrets" -}}
{{- range .Values.images.pullSecrets }}
- name: {{ . }}
{{- end }}
{{- end }}

{{- define "saga.bootstrap" -}}
{{- if eq .Values.kafka.mode "strimzi" -}}
saga-kafka-bootstrap:9092
{{- else -}}
{{- (include "saga.lab" . | fromYaml).plain.bootstrap -}}
{{- end -}}
{{- end }}

{{- define "saga.connect" -}}
{{- if eq .Values.kafka.mode "strimzi" -}}
http://saga-connect-api:8083
{{- else -}}
http://connect:8083
{{- end -}}
{{- end }}

{{- define "saga.collector" -}}
{{- if .Values.tracing.jaeger -}}
http://jaeger:4318
{{- else -}}
{{- .Values.tracing.endpoint -}}
{{- end -}}
{{- end }}

{{/* Copies of each partition, and how many of them must have a record: as in Kafka's own recommendation. */}}
{{- define "saga.copies" -}}
{{ min 3 (int .Values.kafka.brokers) }}
{{- end }}
{{- define "saga.copiesInSync" -}}
{{ max 1 (sub (min 3 (int .Values.kafka.brokers)) 1) }}
{{- end }}

{{/* The password of a role of a database: list of the root, the database and the role. */}}
{{- define "saga.password" -}}
{{- printf "%s/%s/%s" (index . 0).Values.database.secret (index . 1) (index . 2) | sha256sum | trunc 32 -}}
{{- end }}

{{/* What Pod Security `restricted` asks of a pod that runs as this user. */}}
{{- define "saga.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "saga.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Spread the pods of a component over nodes: the component's name. */}}
{{- define "saga.spread" -}}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector: {matchLabels: {app.kubernetes.io/name: {{ . }}}}
{{- end }}

{{/* A service's number of replicas and resources: list of the root and the service's name. */}}
{{- define "saga.override" -}}
{{- $own := get (index . 0).Values.services.overrides (index . 1) | default dict -}}
{{- $common := pick (index . 0).Values.services "replicas" "resources" "settings" -}}
{{- mergeOverwrite (deepCopy $common) $own | toYaml -}}
{{- end }}
