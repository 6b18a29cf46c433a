"""The pool's name, for those who can't import models."""

POOL_TOPIC = "field-survey"
