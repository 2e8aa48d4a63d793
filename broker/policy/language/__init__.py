"""The languages that policies are written in: from a text to the model (`broker.policy.model`), or to every mistake.

source (a text; `json_text`, `yaml_text`) → tree (values and their places) → dialects (`documents` and `native`,
`intercept`) → the model. mistakes: what is wrong; warnings, shadows: what is legal and probably wrong; schema: for
editors.
"""
