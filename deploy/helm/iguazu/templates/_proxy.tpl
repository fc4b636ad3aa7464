{{/* What follows from the values of the proxy, and what is refused. */}}

{{/* `http.drain_seconds`: a pod whose spool goes with it gets longer to empty it. */}}
{{- define "iguazu.proxy.drainSeconds" -}}
{{- $http := default dict .Values.proxy.settings.http -}}
{{- $default := ternary 120 30 (eq .Values.proxy.spool.kind "ephemeral") -}}
{{- int64 (default $default $http.drain_seconds) -}}
{{- end -}}

{{/* `http.drain_delay_seconds`: not ready any more, and still served; for balancers that ask the pods themselves. */}}
{{- define "iguazu.proxy.delaySeconds" -}}
{{- int64 (dig "drain_delay_seconds" 5 (default dict .Values.proxy.settings.http)) -}}
{{- end -}}

{{- define "iguazu.proxy.gracePeriodSeconds" -}}
{{- add .Values.proxy.preStopSeconds (include "iguazu.proxy.delaySeconds" . | int64) (include "iguazu.proxy.drainSeconds" . | int64) .Values.proxy.terminationMarginSeconds -}}
{{- end -}}

{{/* `failed.bytes_max`; 0: nothing is kept. */}}
{{- define "iguazu.proxy.failedBytes" -}}
{{- int64 (dig "bytes_max" 1073741824 (default dict .Values.proxy.settings.failed)) -}}
{{- end -}}

{{/* What the volume must hold: for each cluster spool, wal and failed log, and a twentieth. In MiB. */}}
{{- define "iguazu.proxy.volumeSize" -}}
{{- if .Values.proxy.spool.size -}}
{{- .Values.proxy.spool.size -}}
{{- else -}}
{{- $failedBytes := int64 (include "iguazu.proxy.failedBytes" .) -}}
{{- $spoolBytes := ternary 0 (int64 .Values.proxy.spool.bytesMax) (eq .Values.proxy.spool.kind "none") -}}
{{- $bytes := mul (len .Values.proxy.settings.clusters) (add (mul 2 $spoolBytes) $failedBytes) -}}
{{- printf "%dMi" (add1 (div (mul $bytes 21) (mul 20 1048576))) -}}
{{- end -}}
{{- end -}}

{{- define "iguazu.proxy.checks" -}}
{{- with .Values.proxy -}}
{{- if not .settings.clusters -}}
{{- fail "proxy.settings.clusters: there is none; say at least `clusters: {core: {brokers: [\"kafka:9092\"]}}`" -}}
{{- end -}}
{{- if hasKey (default dict .settings.http) "listen" -}}
{{- fail "proxy.settings.http.listen is the chart's: it follows from proxy.listenAddress and proxy.ports.http" -}}
{{- end -}}
{{- if and .routes.existingConfigMap (or .routes.events .routes.senders) -}}
{{- fail "proxy.routes: events and senders stand beside existingConfigMap, and there is one source of them; take one out" -}}
{{- end -}}
{{- if eq .routes.source "control" -}}
{{- if or .routes.events .routes.senders .routes.existingConfigMap -}}
{{- fail "proxy.routes: events and senders come from the control plane (source: control); take those of the chart out" -}}
{{- end -}}
{{- range $key := list "url" "public_key" "token_file" -}}
{{- if not (get $.Values.proxy.routes.control $key) -}}
{{- fail (printf "proxy.routes.control.%s: missing; source: control needs url, public_key and token_file" $key) -}}
{{- end -}}
{{- end -}}
{{- else if .routes.control -}}
{{- fail "proxy.routes.control has no effect without source: control" -}}
{{- end -}}
{{- $kind := .spool.kind -}}
{{- range $name, $event := .routes.events -}}
{{- if and (eq (default "" $event.reply) "durable") (ne $kind "persistent") -}}
{{- fail (printf "proxy.routes.events.%s: `reply = \"durable\"` promises what is on disk beyond the end of a pod, and proxy.spool.kind is %s; make it persistent, or take the promise back" $name $kind) -}}
{{- end -}}
{{- if and (default false $event.ordered) (eq $kind "none") -}}
{{- fail (printf "proxy.routes.events.%s: `ordered = true` needs a disk, from which one sender delivers in order, and proxy.spool.kind is none; make it persistent or ephemeral, or take the promise back" $name) -}}
{{- end -}}
{{- end -}}
{{- if and .autoscaling.enabled (gt (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas)) -}}
{{- fail "proxy.autoscaling.minReplicas is more than maxReplicas" -}}
{{- end -}}
{{- $drain := int64 (include "iguazu.proxy.drainSeconds" $) -}}
{{- $read := int64 (default 10 (default dict .settings.http).read_timeout_seconds) -}}
{{- if le $drain $read -}}
{{- fail (printf "proxy.settings.http.drain_seconds (%d) must be more than read_timeout_seconds (%d), or one body that is still arriving uses up the whole drain" $drain $read) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* iguazu.toml: the settings with what is the chart's. */}}
{{- define "iguazu.proxy.config" -}}
{{- $proxy := .Values.proxy -}}
{{- $all := deepCopy $proxy.settings -}}
{{- $http := default dict $all.http -}}
{{- $_ := set $http "listen" (printf "%s:%d" $proxy.listenAddress (int $proxy.ports.http)) -}}
{{- $_ := set $http "drain_delay_seconds" (include "iguazu.proxy.delaySeconds" . | int64) -}}
{{- $_ := set $http "drain_seconds" (include "iguazu.proxy.drainSeconds" . | int64) -}}
{{- $_ := set $all "http" $http -}}
{{- $_ := set $all "admin" (dict "listen" (printf "%s:%d" $proxy.listenAddress (int $proxy.ports.admin))) -}}
{{- $_ := set $all "state_dir" "/var/lib/iguazu/state" -}}
{{- if $proxy.schemas -}}
{{- $_ := set $all "schemas_file" "iguazu-schemas.toml" -}}
{{- end -}}
{{- if ne $proxy.spool.kind "none" -}}
{{- $_ := set $all "spool" (dict "folder" "/var/lib/iguazu/spool" "bytes_max" $proxy.spool.bytesMax "fsync_interval_ms" $proxy.spool.fsyncIntervalMs "ephemeral" (eq $proxy.spool.kind "ephemeral")) -}}
{{- end -}}
{{- if eq $proxy.routes.source "control" -}}
{{- $_ := set $all "routes" (merge (dict "source" "control") $proxy.routes.control) -}}
{{- else -}}
{{- $_ := set $all "routes" (dict "source" "file" "file" "/etc/iguazu/routes/events.toml") -}}
{{- end -}}
# Made by the chart from proxy.settings.
{{- include "iguazu.toml" (dict "table" $all "path" "") }}
{{ end -}}

{{/* events.toml: mounted apart, so that a change restarts nothing. */}}
{{- define "iguazu.proxy.routes" -}}
# Made by the chart from proxy.routes.
{{- range $key := list "events" "senders" }}
{{- range $name, $table := get $.Values.proxy.routes $key }}
{{- $at := printf "%s.%s" $key (include "iguazu.toml.key" $name) }}

[{{ $at }}]
{{- include "iguazu.toml" (dict "table" $table "path" $at) }}
{{- end }}
{{- end }}
{{ end -}}

{{/* The files that need a roll: iguazu.toml, and the schemas file. */}}
{{- define "iguazu.proxy.process" -}}
iguazu.toml: |
  {{- include "iguazu.proxy.config" . | nindent 2 }}
{{- with .Values.proxy.schemas }}
iguazu-schemas.toml: |
  {{- . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "iguazu.proxy.processConfigMap" -}}
{{- printf "%s-proxy-%s" (include "iguazu.fullname" .) (include "iguazu.proxy.process" . | sha256sum | trunc 10) -}}
{{- end -}}

{{- define "iguazu.proxy.routesConfigMap" -}}
{{- default (printf "%s-proxy-routes" (include "iguazu.fullname" .)) .Values.proxy.routes.existingConfigMap -}}
{{- end -}}

{{- define "iguazu.proxy.configMounts" -}}
- name: config
  mountPath: /etc/iguazu/process
  readOnly: true
{{- if eq .Values.proxy.routes.source "file" }}
- name: routes
  mountPath: /etc/iguazu/routes
  readOnly: true
{{- end }}
{{- include "iguazu.secretMounts" .Values.proxy.secrets }}
{{- end -}}

{{- define "iguazu.proxy.configVolumes" -}}
- name: config
  configMap:
    name: {{ include "iguazu.proxy.processConfigMap" . }}
{{- if eq .Values.proxy.routes.source "file" }}
- name: routes
  configMap:
    name: {{ include "iguazu.proxy.routesConfigMap" . }}
{{- end }}
{{- include "iguazu.secretVolumes" .Values.proxy.secrets }}
{{- end -}}
