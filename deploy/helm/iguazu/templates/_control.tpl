{{/* What follows from the values of the control plane, and what is refused. */}}

{{- define "iguazu.control.checks" -}}
{{- with .Values.control -}}
{{- if not .settings.clusters -}}
{{- fail "control.settings.clusters: there is none; say how each cluster is reached: `clusters: {core: {brokers: [\"kafka:9092\"]}}`" -}}
{{- end -}}
{{- range $key := list "listen" "state_dir" "store" "store_password_file" "seal_key_file" "snapshot_key_file" "bootstrap_token_file" "tls" "tls_elsewhere" -}}
{{- if hasKey (default dict $.Values.control.settings.control) $key -}}
{{- fail (printf "control.settings.control.%s is the chart's: see control.%s of the values" $key (get (dict "listen" "port" "state_dir" "persistence" "store" "store and postgres.url" "store_password_file" "postgres.passwordFile" "seal_key_file" "sealKeyFile" "snapshot_key_file" "snapshotKeyFile" "bootstrap_token_file" "bootstrapTokenFile" "tls" "tls" "tls_elsewhere" "tls.elsewhere") $key)) -}}
{{- end -}}
{{- end -}}
{{- if and (gt (int .replicas) 1) (ne .store "postgres") -}}
{{- fail "control.replicas: several nodes need `store: postgres`; SQLite is a file of one" -}}
{{- end -}}
{{- if and (eq .store "postgres") (not .postgres.url) -}}
{{- fail "control.postgres.url: missing: postgres://USER@HOST:PORT/DATABASE, without a password" -}}
{{- end -}}
{{- if eq (empty .tls.secretName) (not .tls.elsewhere) -}}
{{- fail "control.tls: name a Secret with a certificate (secretName), or say that something in front of the pods ends TLS (elsewhere: true); one of both: tokens and passwords must not cross the network in clear" -}}
{{- end -}}
{{- end -}}
{{- if .Values.monitoring.serviceMonitor.enabled -}}
{{- if and .Values.control.tls.secretName (not .Values.monitoring.serviceMonitor.tlsConfig) -}}
{{- fail (printf "monitoring.serviceMonitor.tlsConfig: missing: Prometheus asks each pod of the control plane by its IP address, which no certificate names; say `serverName: %s-control.%s` and the authority as `ca`" (include "iguazu.fullname" .) .Release.Namespace) -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled .Values.networkPolicy.callers (not .Values.networkPolicy.monitoring) -}}
{{- fail "networkPolicy.monitoring: empty, and networkPolicy.callers is not: metrics of the control plane are on the port of its API, so that Prometheus would be shut out; name its pods" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "iguazu.control.config" -}}
{{- $values := .Values.control -}}
{{- $all := deepCopy $values.settings -}}
{{- $control := default dict $all.control -}}
{{- $_ := set $control "listen" (printf "%s:%d" $values.listenAddress (int $values.port)) -}}
{{- $_ := set $control "state_dir" "/var/lib/iguazu-control" -}}
{{- if eq $values.store "postgres" -}}
{{- $_ := set $control "store" $values.postgres.url -}}
{{- with $values.postgres.passwordFile -}}{{- $_ := set $control "store_password_file" . -}}{{- end -}}
{{- $_ := set $control "seal_key_file" $values.sealKeyFile -}}
{{- $_ := set $control "snapshot_key_file" $values.snapshotKeyFile -}}
{{- end -}}
{{- with $values.bootstrapTokenFile -}}{{- $_ := set $control "bootstrap_token_file" . -}}{{- end -}}
{{- if $values.tls.secretName -}}
{{- $_ := set $control "tls" (dict "certificate_file" "/run/secrets/tls/tls.crt" "key_file" "/run/secrets/tls/tls.key") -}}
{{- else -}}
{{- $_ := set $control "tls_elsewhere" true -}}
{{- end -}}
{{- $_ := set $all "control" $control -}}
# Made by the chart from control.settings.
{{- include "iguazu.toml" (dict "table" $all "path" "") }}
{{ end -}}

{{- define "iguazu.control.secrets" -}}
{{- $secrets := .Values.control.secrets -}}
{{- with .Values.control.tls.secretName -}}
{{- $secrets = append $secrets (dict "name" . "path" "tls") -}}
{{- end -}}
{{- toYaml $secrets -}}
{{- end -}}

{{/*
Who may reach the API, as a list of peers; empty is everybody. Metrics are on its port, so that who scrapes is let in beside the callers; and so
are the proxies of this release that follow it.
*/}}
{{- define "iguazu.control.peers" -}}
{{- $peers := list -}}
{{- with .Values.networkPolicy.callers -}}
{{- $peers = concat . $.Values.networkPolicy.monitoring -}}
{{- if and $.Values.proxy.enabled (eq $.Values.proxy.routes.source "control") -}}
{{- $own := include "iguazu.selector" (dict "root" $ "component" "proxy") | fromYaml -}}
{{- $peers = append $peers (dict "podSelector" (dict "matchLabels" $own)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $peers -}}
{{- end -}}
