{{/*
Values as TOML: (dict "table" MAP "path" "" ). Helm's own toToml writes whole numbers as fractions, which Iguazu refuses.
*/}}

{{- define "iguazu.toml" -}}
{{- $path := .path -}}
{{- range $key, $value := .table -}}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ include "iguazu.toml.key" $key }} = {{ include "iguazu.toml.value" $value }}
{{- end -}}
{{- end -}}
{{- range $key, $value := .table -}}
{{- if kindIs "map" $value -}}
{{- $at := include "iguazu.toml.key" $key -}}
{{- if $path -}}
{{- $at = printf "%s.%s" $path $at -}}
{{- end }}

[{{ $at }}]
{{- include "iguazu.toml" (dict "table" $value "path" $at) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "iguazu.toml.key" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . -}}{{ . }}{{- else -}}{{ toJson . }}{{- end -}}
{{- end -}}

{{- define "iguazu.toml.value" -}}
{{- if kindIs "string" . -}}
{{ toJson . }}
{{- else if kindIs "bool" . -}}
{{ . }}
{{- else if kindIs "float64" . -}}
{{- if eq . (floor .) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- else if kindIs "slice" . -}}
[{{- range $index, $value := . -}}{{- if $index }}, {{ end -}}{{ include "iguazu.toml.value" $value }}{{- end -}}]
{{- else if kindIs "map" . -}}
{ {{- range $index, $key := keys . | sortAlpha -}}{{- if $index }},{{ end }} {{ include "iguazu.toml.key" $key }} = {{ include "iguazu.toml.value" (get $ $key) }}{{- end }} }
{{- else -}}
{{ . }}
{{- end -}}
{{- end -}}
