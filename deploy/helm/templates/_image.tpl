{{- /* Written by `make docs` from deploy/kubernetes. */}}
{{- define "contactstream.image" -}}
{{ .Values.image.repository }}
{{- with .Values.image.digest }}@{{ . }}{{ else }}:{{ .Values.image.tag }}{{ end }}
{{- end }}
