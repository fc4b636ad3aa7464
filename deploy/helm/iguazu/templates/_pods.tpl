{{/* What all pods have in common. */}}

{{- define "iguazu.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "iguazu.secretMounts" -}}
{{- range . }}
- name: secret-{{ .path }}
  mountPath: /run/secrets/{{ .path }}
  readOnly: true
{{- end }}
{{- end -}}

{{/* The group reads them, nobody else: Iguazu warns of secrets that everybody may read. */}}
{{- define "iguazu.secretVolumes" -}}
{{- range . }}
- name: secret-{{ .path }}
  secret:
    secretName: {{ .name }}
    defaultMode: 0440
{{- end }}
{{- end -}}

{{/* (dict "root" $ "values" .Values.proxy) */}}
{{- define "iguazu.podSettings" -}}
serviceAccountName: {{ include "iguazu.serviceAccount" .root }}
# Nothing in the pod talks to Kubernetes.
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}
